//! Texture fetches, surface accesses, and questions about both. Objects are 64-bit values; a texture
//! or surface that a module declares by name, as CUDA had them before objects, becomes a trap.

use super::function::{Decoder, types};
use super::{Problem, Step, bad};
use crate::exec::op::Op;
use crate::exec::surface::{self, Access, Action, Combine, Edge};
use crate::exec::texture::{self, Fetch, Geometry, Level, Question};
use crate::ptx::ast::{Instruction, Operand};
use crate::ptx::types::Type;

/// An instruction's geometry: coordinates without the layer, and whether a layer comes first.
fn geometry(i: &Instruction<'_>) -> Step<(Geometry, usize, bool)> {
    i.modifiers()
        .find_map(|modifier| {
            Some(match modifier {
                "1d" => (Geometry::Plain(1), 1, false),
                "2d" => (Geometry::Plain(2), 2, false),
                "3d" => (Geometry::Plain(3), 3, false),
                "a1d" => (Geometry::Layered(1), 1, true),
                "a2d" => (Geometry::Layered(2), 2, true),
                "cube" => (Geometry::Cube, 3, false),
                "acube" => (Geometry::CubeLayered, 3, true),
                _ => return None,
            })
        })
        .ok_or(Problem::Unknown)
}

fn parts<'o, 'a>(operand: &'o Operand<'a>) -> &'o [Operand<'a>] {
    match operand {
        Operand::Vector(all) => all,
        single => std::slice::from_ref(single),
    }
}

impl<'a> Decoder<'_, 'a> {
    pub(super) fn texture(&mut self, i: &Instruction<'a>) -> Step {
        match i.opcode() {
            "tex" | "tld4" => self.fetch(i),
            "txq" => self.texture_query(i),
            "suq" => self.surface_query(i),
            _ => self.surface(i),
        }
    }

    /// The slot of an object.
    fn object(&mut self, operand: &Operand<'a>) -> Step<u32> {
        match operand {
            Operand::Register(_) | Operand::Int(_) => self.source(operand, Type::U64),
            _ => Err(Problem::Unknown),
        }
    }

    /// Object, layer and three coordinates of `[object, {coordinates}]`; what is not given is 0.
    fn texture_place(&mut self, operand: &Operand<'a>, ty: Type, sides: usize, layered: bool) -> Step<(u32, u32, [u32; 3])> {
        let Operand::Address(inner, 0) = operand else { return bad("an object with coordinates expected") };
        let Operand::List(both) = &**inner else { return bad("an object with coordinates expected") };
        let [object, coordinates] = both.as_slice() else { return Err(Problem::Unknown) };
        let object = self.object(object)?;
        let mut given = parts(coordinates).iter();
        let zero = self.constant(4, 0);
        let mut layer = zero;
        if layered {
            let Some(first) = given.next() else { return bad("a layer expected") };
            layer = self.source(first, Type::U32)?;
        }
        let mut slots = [zero; 3];
        for slot in slots.iter_mut().take(sides) {
            let Some(coordinate) = given.next() else { return bad("more coordinates expected") };
            *slot = self.source(coordinate, ty)?;
        }
        Ok((object, layer, slots))
    }

    fn derivatives(&mut self, operand: &Operand<'a>) -> Step<[u32; 3]> {
        let mut slots = [self.constant(4, 0); 3];
        for (slot, part) in slots.iter_mut().zip(parts(operand)) {
            *slot = self.source(part, Type::F32)?;
        }
        Ok(slots)
    }

    fn fetch(&mut self, i: &Instruction<'a>) -> Step {
        let [wanted @ (Type::F32 | Type::U32 | Type::S32), coordinate @ (Type::F32 | Type::S32)] = types(i)[..] else {
            return Err(Problem::Unknown);
        };
        let [results, place, rest @ ..] = i.operands.as_slice() else { return bad("a place expected") };
        let (geometry, sides, layered) = geometry(i)?;
        let (object, layer, coordinates) = self.texture_place(place, coordinate, sides, layered)?;
        let is_integer = coordinate == Type::S32;
        let level = match rest {
            [lod] if i.has("level") => Level::Explicit(self.source(lod, coordinate)?, is_integer),
            [x, y] if i.has("grad") => Level::Gradient(self.derivatives(x)?, self.derivatives(y)?),
            [] if !i.has("level") && !i.has("grad") => Level::Base,
            // Offsets and comparisons of depth.
            _ => return Err(Problem::Unknown),
        };
        let component = |name: &str| ["r", "g", "b", "a"].into_iter().position(|known| known == name);
        let gather = match i.opcode() {
            "tld4" => Some(i.modifiers().find_map(component).ok_or(Problem::Unknown)?),
            _ => None,
        };
        let Operand::Vector(results) = results else { return Err(Problem::Unknown) };
        let [r, g, b, a] = results.as_slice() else { return Err(Problem::Unknown) };
        let destinations = [r, g, b, a].map(|result| self.destination(result, wanted));
        let [r, g, b, a] = destinations;
        let destinations = [r?, g?, b?, a?];
        let number = self.out.fetches.len() as u64;
        self.out.fetches.push(Fetch {
            object,
            geometry,
            layer,
            coordinates,
            is_integer,
            level,
            gather: gather.and_then(|component| u8::try_from(component).ok()),
            wants_float: wanted == Type::F32,
            results: [0, 1, 2, 3].map(|n: usize| destinations[n].slot),
        });
        self.ops.push(Op { imm: number, ..Op::new(texture::fetch, self.line) });
        for destination in destinations {
            self.finish(destination);
        }
        Ok(())
    }

    fn texture_query(&mut self, i: &Instruction<'a>) -> Step {
        let question = i.modifiers().find_map(|modifier| {
            Some(match modifier {
                "width" => Question::Side(0),
                "height" => Question::Side(1),
                "depth" => Question::Side(2),
                "array_size" => Question::Layers,
                "num_mipmap_levels" => Question::Levels,
                "normalized_coords" => Question::IsNormalized,
                _ => return None,
            })
        });
        let [d, Operand::Address(object, 0), level @ ..] = i.operands.as_slice() else {
            return bad("an object expected");
        };
        let object = self.object(object)?;
        let level = match level {
            [level] => self.source(level, Type::U32)?,
            _ => self.constant(4, 0),
        };
        let d = self.destination(d, Type::B32)?;
        let imm = question.ok_or(Problem::Unknown)?.number();
        self.ops.push(Op { d: d.slot, a: object, b: level, imm, ..Op::new(texture::query, self.line) });
        self.finish(d);
        Ok(())
    }

    fn surface_query(&mut self, i: &Instruction<'a>) -> Step {
        let side = i.modifiers().find_map(|modifier| {
            Some(match modifier {
                "width" => 0,
                "height" => 1,
                "depth" => 2,
                "array_size" => 3,
                _ => return None,
            })
        });
        let [d, Operand::Address(object, 0)] = i.operands.as_slice() else { return bad("an object expected") };
        let object = self.object(object)?;
        let d = self.destination(d, Type::B32)?;
        let imm = side.ok_or(Problem::Unknown)?;
        self.ops.push(Op { d: d.slot, a: object, imm, ..Op::new(surface::query, self.line) });
        self.finish(d);
        Ok(())
    }

    fn surface(&mut self, i: &Instruction<'a>) -> Step {
        let Some(ty) = types(i).last().copied().filter(|ty| ty.size() <= 8) else { return bad("no type") };
        let combine = i.modifiers().find_map(|modifier| {
            Some(match modifier {
                "add" => Combine::Add,
                "min" => Combine::Min,
                "max" => Combine::Max,
                "and" => Combine::And,
                "or" => Combine::Or,
                _ => return None,
            })
        });
        let by_bytes = i.has("b");
        let action = match (i.opcode(), combine) {
            ("suld", _) if by_bytes => Action::Load,
            ("sust", _) if by_bytes => Action::Store,
            ("sust", _) => Action::StoreFormatted,
            ("sured", Some(combine)) => Action::Reduce(combine, ty.is_signed()),
            _ => return Err(Problem::Unknown),
        };
        let edge = match () {
            () if i.has("clamp") => Edge::Clamp,
            () if i.has("zero") => Edge::Zero,
            () => Edge::Trap,
        };
        let [first, second] = i.operands.as_slice() else { return bad("two operands expected") };
        let (values, place) = if action == Action::Load { (first, second) } else { (second, first) };
        let (_, sides, is_layered) = geometry(i)?;
        let (object, layer, coordinates) = self.texture_place(place, Type::S32, sides, is_layered)?;
        let mut destinations = Vec::new();
        let mut slots = Vec::new();
        for value in parts(values) {
            if action == Action::Load {
                let destination = self.destination(value, ty)?;
                slots.push(destination.slot);
                destinations.push(destination);
            } else {
                slots.push(self.source(value, ty)?);
            }
        }
        let is_reduction = matches!(action, Action::Reduce(..));
        if !matches!(slots.len(), 1 | 2 | 4) || (is_reduction && !matches!(ty.size(), 4 | 8)) {
            return Err(Problem::Unknown);
        }
        let number = self.out.accesses.len() as u64;
        let size = ty.size();
        let values = slots;
        self.out.accesses.push(Access {
            object,
            action,
            edge,
            sides,
            is_layered,
            by_bytes,
            layer,
            coordinates,
            size,
            values,
        });
        self.ops.push(Op { imm: number, ..Op::new(surface::access, self.line) });
        for destination in destinations {
            self.finish(destination);
        }
        Ok(())
    }
}
