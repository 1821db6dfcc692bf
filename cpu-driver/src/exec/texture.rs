//! Texture fetches: coordinates to elements as the CUDA programming guide's appendix on texture
//! fetching gives it, for each active lane by itself.

use super::float::{from_half, saturate};
use super::lanes::LANES;
use super::op::Op;
use super::sync::each;
use super::warp::Warp;
use super::fault::FaultKind;
use crate::memory::surface::{Channel, Grid};
use crate::memory::texture::{Outside, Reads, TEXTURES, Texture};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, Ordering};

/// How a fetch's coordinates name a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Geometry {
    /// One, two or three coordinates.
    Plain(u8),
    /// A layer, then one or two coordinates.
    Layered(u8),
    /// Three coordinates of a direction.
    Cube,
    /// A layer, then a direction.
    CubeLayered,
}

/// Which level of detail a fetch reads; slots of f32.
#[derive(Debug, Clone, Copy)]
pub enum Level {
    Base,
    /// A slot, and whether it holds integers.
    Explicit(u32, bool),
    /// Derivatives along x and y.
    Gradient([u32; 3], [u32; 3]),
}

/// One fetch: slots of 32-bit lanes, but for the object's, which are of 64 bits.
#[derive(Debug, Clone)]
pub struct Fetch {
    pub object: u32,
    pub geometry: Geometry,
    /// The layer's slot, then those of the coordinates.
    pub layer: u32,
    pub coordinates: [u32; 3],
    /// Coordinates are signed integers.
    pub is_integer: bool,
    pub level: Level,
    /// `tld4`: the component that is gathered.
    pub gather: Option<u8>,
    /// The kernel wants floating point.
    pub wants_float: bool,
    pub results: [u32; 4],
}

/// What `txq` asks.
#[derive(Debug, Clone, Copy)]
pub enum Question {
    Side(u8),
    Layers,
    Levels,
    IsNormalized,
}

/// An element's channels: floating point, or the bits of integers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Texel {
    Float([f32; 4]),
    Bits([u32; 4]),
}

/// Reads a channel's bits; the memory may change meanwhile.
#[inline(always)]
fn load(address: u64, bytes: u32) -> u32 {
    let at = std::ptr::with_exposed_provenance_mut::<u8>(usize::try_from(address).unwrap_or(0));
    // SAFETY: elements lie in the arena, which stays mapped, at multiples of their channels' size;
    // everybody reads and writes them by atomics or by copies that may tear.
    unsafe {
        match bytes {
            1 => u32::from(AtomicU8::from_ptr(at).load(Ordering::Relaxed)),
            2 => u32::from(AtomicU16::from_ptr(at.cast()).load(Ordering::Relaxed)),
            _ => AtomicU32::from_ptr(at.cast()).load(Ordering::Relaxed),
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "a channel's own bits")]
fn signed(bits: u32, bytes: u32) -> i32 {
    match bytes {
        1 => i32::from(bits as u8 as i8),
        2 => i32::from(bits as u16 as i16),
        _ => bits as i32,
    }
}

/// A channel as floating point.
#[allow(clippy::cast_precision_loss, reason = "eight and sixteen bits fit")]
fn as_float(channel: Channel, bits: u32) -> f32 {
    let of_signed = |max: f32| (signed(bits, channel.bytes()) as f32 / max).max(-1.0);
    match channel {
        Channel::U8 | Channel::Unorm8 => bits as f32 / 255.0,
        Channel::U16 | Channel::Unorm16 => bits as f32 / 65_535.0,
        Channel::S8 | Channel::Snorm8 => of_signed(127.0),
        Channel::S16 | Channel::Snorm16 => of_signed(32_767.0),
        Channel::F16 => from_half(u16::try_from(bits & 0xffff).unwrap_or(0)),
        Channel::F32 | Channel::U32 | Channel::S32 => f32::from_bits(bits),
    }
}

fn from_srgb(x: f32) -> f32 {
    if x <= 0.040_45 { x / 12.92 } else { ((x + 0.055) / 1.055).powf(2.4) }
}

impl Texture {
    fn is_float(&self, channel: Channel) -> bool {
        match channel {
            Channel::U32 | Channel::S32 => false,
            Channel::U8 | Channel::U16 | Channel::S8 | Channel::S16 => self.reads == Reads::Normalized,
            _ => true,
        }
    }

    /// The element at a place inside; None stands for outside.
    fn texel(&self, grid: &Grid, place: Option<[u32; 3]>) -> Texel {
        let channel = grid.format.channel;
        let is_float = self.is_float(channel);
        let Some(place) = place else {
            return if is_float { Texel::Float(self.border) } else { Texel::Bits(self.border.map(f32::to_bits)) };
        };
        let (address, bytes) = (grid.address(place), channel.bytes());
        if is_float {
            let mut all = [0.0, 0.0, 0.0, 1.0];
            for n in 0..grid.format.channels {
                let value = as_float(channel, load(address + u64::from(n * bytes), bytes));
                all[n as usize % 4] = if self.is_srgb && n < 3 { from_srgb(value) } else { value };
            }
            return Texel::Float(all);
        }
        let mut all = [0, 0, 0, 1];
        for n in 0..grid.format.channels {
            let bits = load(address + u64::from(n * bytes), bytes);
            let is_signed = matches!(channel, Channel::S8 | Channel::S16 | Channel::S32);
            all[n as usize % 4] = if is_signed { signed(bits, bytes).cast_unsigned() } else { bits };
        }
        Texel::Bits(all)
    }

    /// The index along one side that a number stands for.
    fn index(&self, axis: usize, at: i64, side: u32) -> Option<u32> {
        let (n, mode) = (i64::from(side), self.outside[axis]);
        let inside = match mode {
            Outside::Clamp => at.clamp(0, n - 1),
            Outside::Wrap => at.rem_euclid(n),
            Outside::Mirror => {
                let turn = at.rem_euclid(2 * n);
                if turn < n { turn } else { 2 * n - 1 - turn }
            }
            Outside::Border => at,
        };
        u32::try_from(inside).ok().filter(|inside| *inside < side)
    }
}

/// A lane's coordinates in elements, and the layer, of a grid.
struct Place {
    at: [f32; 3],
    sides: usize,
    layer: Option<u32>,
}

#[allow(clippy::cast_possible_truncation, reason = "beyond 64 bits every coordinate is outside")]
fn floor(x: f32) -> i64 {
    if x.is_nan() { 0 } else { x.floor() as i64 }
}

/// The weight of the right neighbour, in 8 bits as the hardware has it.
fn weight(x: f32) -> f32 {
    let fraction = x - x.floor();
    if fraction.is_finite() { (fraction * 256.0).round_ties_even() / 256.0 } else { 0.0 }
}

impl Place {
    fn nearest(&self, texture: &Texture, grid: &Grid) -> Option<[u32; 3]> {
        self.element(texture, grid, |axis| floor(self.at[axis]))
    }

    fn element(&self, texture: &Texture, grid: &Grid, along: impl Fn(usize) -> i64) -> Option<[u32; 3]> {
        let mut place = [0; 3];
        for (axis, place) in place.iter_mut().enumerate().take(self.sides) {
            *place = texture.index(axis, along(axis), grid.extent[axis])?;
        }
        if let Some(layer) = self.layer {
            place[2] = layer;
        }
        Some(place)
    }

    /// The average of the neighbours by their distance.
    fn filtered(&self, texture: &Texture, grid: &Grid) -> Texel {
        let shifted = self.at.map(|x| x - 0.5);
        let mut sum = [0.0; 4];
        for corner in 0..1_u32 << self.sides {
            let is_right = |axis: usize| corner >> axis & 1;
            let mut share = 1.0;
            for (axis, shifted) in shifted.iter().enumerate().take(self.sides) {
                let right = weight(*shifted);
                share *= if is_right(axis) == 1 { right } else { 1.0 - right };
            }
            let along = |axis: usize| floor(shifted[axis]).saturating_add(i64::from(is_right(axis)));
            // A neighbour without a share may hold what is no number.
            if share > 0.0
                && let Texel::Float(all) = texture.texel(grid, self.element(texture, grid, along))
            {
                for (sum, value) in sum.iter_mut().zip(all) {
                    *sum += share * value;
                }
            }
        }
        Texel::Float(sum)
    }

    /// One component of the four elements that a filter would read, counter-clockwise from the lower
    /// left.
    fn gathered(&self, texture: &Texture, grid: &Grid, component: u8) -> Texel {
        let along = |right: i64, up: i64| {
            let place = self.element(texture, grid, |axis| floor(self.at[axis] - 0.5) + [right, up, 0][axis]);
            texture.texel(grid, place)
        };
        let four = [along(0, 1), along(1, 1), along(1, 0), along(0, 0)];
        let component = usize::from(component);
        match four[0] {
            Texel::Float(_) => {
                Texel::Float(four.map(|texel| if let Texel::Float(all) = texel { all[component] } else { 0.0 }))
            }
            Texel::Bits(_) => {
                Texel::Bits(four.map(|texel| if let Texel::Bits(all) = texel { all[component] } else { 0 }))
            }
        }
    }
}

/// The face that a direction points to, and where on it, from 0 to 1.
fn face([x, y, z]: [f32; 3]) -> (u32, f32, f32) {
    let (ax, ay, az) = (x.abs(), y.abs(), z.abs());
    let (face, m, s, t) = if ax >= ay && ax >= az {
        if x >= 0.0 { (0, ax, -z, -y) } else { (1, ax, z, -y) }
    } else if ay >= az {
        if y >= 0.0 { (2, ay, x, z) } else { (3, ay, x, -z) }
    } else if z >= 0.0 {
        (4, az, x, -y)
    } else {
        (5, az, -x, -y)
    };
    (face, (s / m + 1.0) / 2.0, (t / m + 1.0) / 2.0)
}

/// What one lane brings.
#[derive(Clone, Copy)]
pub struct Lane {
    pub coordinates: [f32; 3],
    pub layer: u32,
    /// Explicit level, or the level that the derivatives give.
    pub level: Option<f32>,
    pub gradient: Option<[[f32; 3]; 2]>,
}

impl Texture {
    #[allow(clippy::cast_precision_loss, reason = "sides are below 2^28")]
    fn place(&self, grid: &Grid, geometry: Geometry, lane: &Lane) -> Place {
        let scaled = |at: [f32; 3]| {
            let side = |n: usize| if self.has_normalized_coordinates { at[n] * grid.extent[n] as f32 } else { at[n] };
            [side(0), side(1), side(2)]
        };
        let clamped = |layer: u32| layer.min(self.layers.max(1) - 1);
        match geometry {
            Geometry::Plain(sides) => Place { at: scaled(lane.coordinates), sides: sides.into(), layer: None },
            Geometry::Layered(sides) => {
                Place { at: scaled(lane.coordinates), sides: sides.into(), layer: Some(clamped(lane.layer)) }
            }
            Geometry::Cube | Geometry::CubeLayered => {
                let (face, s, t) = face(lane.coordinates);
                let at = [s * grid.extent[0] as f32, t * grid.extent[1] as f32, 0.0];
                let cube = if geometry == Geometry::CubeLayered { lane.layer } else { 0 };
                let layer = cube.min((self.layers / 6).max(1) - 1) * 6 + face;
                Place { at, sides: 2, layer: Some(clamped(layer)) }
            }
        }
    }

    fn at_level(&self, level: usize, geometry: Geometry, lane: &Lane) -> Texel {
        let Some(grid) = self.levels.get(level) else { return Texel::Float(self.border) };
        let place = self.place(grid, geometry, lane);
        if self.is_linear_filter { place.filtered(self, grid) } else { self.texel(grid, place.nearest(self, grid)) }
    }

    /// The level that derivatives ask for: where one step is one element.
    #[allow(clippy::cast_precision_loss, reason = "sides are below 2^28")]
    fn level_of(&self, gradient: &[[f32; 3]; 2]) -> f32 {
        let Some(grid) = self.levels.first() else { return 0.0 };
        let length = |step: &[f32; 3]| {
            let side = |n: usize| if self.has_normalized_coordinates { step[n] * grid.extent[n] as f32 } else { step[n] };
            (side(0).powi(2) + side(1).powi(2) + side(2).powi(2)).sqrt()
        };
        length(&gradient[0]).max(length(&gradient[1])).log2()
    }

    /// One lane's fetch.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "few levels")]
    pub fn fetch(&self, geometry: Geometry, lane: &Lane, gather: Option<u8>) -> Texel {
        let Some(first) = self.levels.first() else { return Texel::Float(self.border) };
        if self.linear > 0 {
            // Outside of linear memory there is nothing but zeros.
            let at = u32::try_from(floor(lane.coordinates[0])).ok().filter(|at| u64::from(*at) < self.linear);
            let is_float = self.is_float(first.format.channel);
            let nothing = if is_float { Texel::Float([0.0; 4]) } else { Texel::Bits([0; 4]) };
            return at.map_or(nothing, |x| self.texel(first, Some([x, 0, 0])));
        }
        if let Some(component) = gather {
            return self.place(first, geometry, lane).gathered(self, first, component);
        }
        let asked = lane.level.or_else(|| lane.gradient.as_ref().map(|gradient| self.level_of(gradient)));
        let last = (self.levels.len() - 1) as f32;
        if last == 0.0 {
            return self.at_level(0, geometry, lane);
        }
        let [low, high] = self.level_clamp;
        let level = (asked.unwrap_or(0.0) + self.level_bias).max(low).min(high.max(low)).clamp(0.0, last);
        if !self.is_linear_mipmap {
            return self.at_level((level + 0.5).floor().min(last) as usize, geometry, lane);
        }
        let (below, share) = (level.floor(), weight(level));
        let lower = self.at_level(below as usize, geometry, lane);
        match (lower, share > 0.0) {
            (Texel::Float(a), true) => match self.at_level(below as usize + 1, geometry, lane) {
                Texel::Float(b) => Texel::Float(std::array::from_fn(|n| a[n] + share * (b[n] - a[n]))),
                bits => bits,
            },
            _ => lower,
        }
    }
}

/// The texture of a lane; the last one found is looked at first.
pub(super) fn find<T>(
    cached: &mut Option<(u64, Arc<T>)>,
    handle: u64,
    look: impl FnOnce(u64) -> Option<Arc<T>>,
) -> Option<&T> {
    if cached.as_ref().is_none_or(|(known, _)| *known != handle) {
        *cached = Some((handle, look(handle)?));
    }
    cached.as_ref().map(|(_, found)| &**found)
}

impl Fetch {
    /// # Safety
    /// As `Run`: every slot is one of the warp's current frame.
    #[allow(clippy::cast_precision_loss, reason = "integer coordinates of textures are small")]
    unsafe fn lane(&self, w: &Warp, lane: usize) -> Lane {
        // SAFETY: the caller's promise.
        let float = |slot: u32| unsafe { *w.lanes::<f32>(slot).add(lane) };
        // SAFETY: as above.
        let whole = |slot: u32| unsafe { *w.lanes::<u32>(slot).add(lane) };
        let coordinate = |slot: u32| if self.is_integer { whole(slot).cast_signed() as f32 } else { float(slot) };
        let level = match self.level {
            Level::Explicit(slot, true) => Some(whole(slot).cast_signed() as f32),
            Level::Explicit(slot, false) => Some(float(slot)),
            _ => None,
        };
        let gradient = match self.level {
            Level::Gradient(x, y) => Some([x.map(float), y.map(float)]),
            _ => None,
        };
        Lane { coordinates: self.coordinates.map(coordinate), layer: whole(self.layer), level, gradient }
    }

    fn bits(&self, texel: Texel) -> [u32; 4] {
        match texel {
            Texel::Float(all) if self.wants_float => all.map(f32::to_bits),
            // An integer that a kernel asks for where the texture has floating point.
            #[allow(clippy::cast_possible_truncation, reason = "saturates")]
            Texel::Float(all) => all.map(|value| (value as i32).cast_unsigned()),
            Texel::Bits(all) => all,
        }
    }
}

/// `tex` and `tld4`: `imm` is the number of the fetch in its function.
///
/// # Safety
/// As `Run`.
pub unsafe fn fetch(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: `Run`'s contract; the fetch was made by decode for this function.
    unsafe {
        let op = &*at;
        let function = &*w.frames[w.frame as usize].function;
        let fetch = &function.fetches[op.imm as usize];
        let objects = *w.lanes::<[u64; LANES]>(fetch.object);
        let mut cached = None;
        for lane in each(w.mask) {
            let Some(texture) = find(&mut cached, objects[lane], |handle| TEXTURES.get(handle)) else {
                return w.fail(FaultKind::IllegalAddress, op, lane as u32, objects[lane], "no such texture");
            };
            let texel = texture.fetch(fetch.geometry, &fetch.lane(w, lane), fetch.gather);
            for (slot, bits) in fetch.results.iter().zip(fetch.bits(texel)) {
                *w.lanes::<u32>(*slot).add(lane) = bits;
            }
        }
        at.add(1)
    }
}

fn answer(texture: &Texture, question: Question, level: u32) -> u32 {
    let grid = texture.levels.get(level as usize);
    match question {
        Question::Side(axis) => grid.map_or(0, |grid| {
            if u32::from(axis) < grid.dimensions { grid.extent[usize::from(axis) % 3] } else { 0 }
        }),
        Question::Layers if texture.is_cube => texture.layers / 6,
        Question::Layers => texture.layers,
        Question::Levels => u32::try_from(texture.levels.len()).unwrap_or(0),
        Question::IsNormalized => texture.has_normalized_coordinates.into(),
    }
}

/// `txq`: `a` holds objects, `b` levels, `imm` is what is asked.
///
/// # Safety
/// As `Run`.
pub unsafe fn query(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: `Run`'s contract.
    unsafe {
        let op = &*at;
        let (objects, levels) = (*w.lanes::<[u64; LANES]>(op.a), *w.lanes::<[u32; LANES]>(op.b));
        let mut cached = None;
        for lane in each(w.mask) {
            let Some(texture) = find(&mut cached, objects[lane], |handle| TEXTURES.get(handle)) else {
                return w.fail(FaultKind::IllegalAddress, op, lane as u32, objects[lane], "no such texture");
            };
            *w.lanes::<u32>(op.d).add(lane) = answer(texture, Question::from_number(op.imm), levels[lane]);
        }
        at.add(1)
    }
}

impl Question {
    pub fn number(self) -> u64 {
        match self {
            Self::Side(axis) => u64::from(axis),
            Self::Layers => 3,
            Self::Levels => 4,
            Self::IsNormalized => 5,
        }
    }

    fn from_number(number: u64) -> Self {
        match number {
            0 => Self::Side(0),
            1 => Self::Side(1),
            2 => Self::Side(2),
            3 => Self::Layers,
            4 => Self::Levels,
            _ => Self::IsNormalized,
        }
    }
}

/// A value from 0 to 1 as an integer of so many steps.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the steps")]
pub(super) fn steps(value: f32, steps: f32) -> u32 {
    (saturate(value) * steps).round_ties_even() as u32
}
