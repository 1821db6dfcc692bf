//! A terminal's screen as a picture: text with a terminal's escapes goes through vt100 and is drawn with DejaVu Sans Mono.
//! Lines, blocks and Braille are drawn here, as terminals do, so that they meet from cell to cell.

use std::collections::HashMap;
use std::fs;
use std::num::NonZero;
use std::path::Path;
use std::rc::Rc;

use ab_glyph::{Font, FontVec, PxScale, ScaleFont, point};
use anyhow::{Context, Result};
use vt100::{Cell, Color, Parser};

use crate::picture;

pub(crate) const FONT: &str = "/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf";
const BOLD_FONT: &str = "/usr/share/fonts/truetype/dejavu/DejaVuSansMono-Bold.ttf";
/// A cell, in pixels, and the size of letters in it.
const WIDTH: usize = 12;
const HEIGHT: usize = 24;
const LETTERS: f32 = 19.9;
const MARGIN: usize = 16;
/// Of letters and of the screen where the text says nothing.
const INK: [u8; 3] = [205, 214, 224];
const PAPER: [u8; 3] = [15, 18, 24];

/// Draws a screen of so many columns and lines into a PNG.
pub(crate) fn to_png(text: &str, columns: u16, lines: u16, to: &Path) -> Result<()> {
    let size = NonZero::new(lines).zip(NonZero::new(columns)).context("a screen without cells")?;
    let mut terminal = Parser::new(size.0, size.1, 0);
    terminal.process(text.trim_end_matches('\n').replace('\n', "\r\n").as_bytes());
    let mut picture = Picture::new(usize::from(columns), usize::from(lines))?;
    for line in 0..lines {
        for column in 0..columns {
            if let Some(cell) = terminal.screen().cell(line, column) {
                picture.draw(usize::from(column), usize::from(line), cell);
            }
        }
    }
    picture::write_png(to, picture.width, picture.height, &picture.pixels)
}

struct Picture {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
    font: FontVec,
    bold: FontVec,
    /// What has been drawn before, by letter and boldness.
    letters: HashMap<(char, bool), Rc<[Dot]>>,
}

/// A pixel of a letter, from its cell's corner, and how much of it the letter covers.
type Dot = (i32, i32, f32);

impl Picture {
    fn new(columns: usize, lines: usize) -> Result<Self> {
        let read = |path: &str| -> Result<FontVec> {
            let bytes = fs::read(path).with_context(|| format!("cannot read {path}"))?;
            FontVec::try_from_vec(bytes).with_context(|| format!("{path} is no font"))
        };
        let (width, height) = (columns * WIDTH + 2 * MARGIN, lines * HEIGHT + 2 * MARGIN);
        let pixels = PAPER.repeat(width * height);
        Ok(Self { width, height, pixels, font: read(FONT)?, bold: read(BOLD_FONT)?, letters: HashMap::new() })
    }

    fn draw(&mut self, column: usize, line: usize, cell: &Cell) {
        let (mut ink, mut paper) = (color(cell.fgcolor(), INK), color(cell.bgcolor(), PAPER));
        if cell.inverse() {
            std::mem::swap(&mut ink, &mut paper);
        }
        let corner = (MARGIN + column * WIDTH, MARGIN + line * HEIGHT);
        if paper != PAPER {
            (0..WIDTH * HEIGHT)
                .for_each(|at| self.blend(corner.0 + at % WIDTH, corner.1 + at / WIDTH, paper, 1.0));
        }
        let Some(letter) = cell.contents().chars().next().filter(|letter| *letter != ' ') else { return };
        for (x, y, part) in self.letter(letter, cell.bold()).iter() {
            let place = |corner: usize, at: i32| {
                isize::try_from(at).ok().and_then(|at| corner.checked_add_signed(at))
            };
            if let (Some(x), Some(y)) = (place(corner.0, *x), place(corner.1, *y)) {
                self.blend(x, y, ink, *part);
            }
        }
    }

    fn letter(&mut self, letter: char, bold: bool) -> Rc<[Dot]> {
        if let Some(known) = self.letters.get(&(letter, bold)) {
            return Rc::clone(known);
        }
        let drawn = match drawn_here(letter) {
            true => shape(letter),
            false => outline(if bold { &self.bold } else { &self.font }, letter),
        };
        let drawn: Rc<[Dot]> = drawn.into();
        self.letters.insert((letter, bold), Rc::clone(&drawn));
        drawn
    }

    fn blend(&mut self, x: usize, y: usize, color: [u8; 3], part: f32) {
        let at = (y * self.width + x) * color.len();
        let Some(pixel) = self.pixels.get_mut(at..at + color.len()).filter(|_| x < self.width) else {
            return;
        };
        for (old, new) in pixel.iter_mut().zip(color) {
            let mixed = f32::from(*old) + (f32::from(new) - f32::from(*old)) * part.clamp(0.0, 1.0);
            *old = u8::try_from(whole(mixed)).unwrap_or(new);
        }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "saturates, and a picture's figures are small")]
fn whole(value: f32) -> i32 {
    value.round() as i32
}

/// A letter as the font has it.
fn outline(font: &FontVec, letter: char) -> Vec<Dot> {
    let scaled = font.as_scaled(scale(font));
    let rest = HEIGHT as f32 - scaled.height();
    let place = point(0.0, scaled.ascent() + rest / 2.0);
    let glyph = font.glyph_id(letter).with_scale_and_position(scale(font), place);
    let mut dots = Vec::new();
    if let Some(outline) = font.outline_glyph(glyph) {
        let corner = outline.px_bounds().min;
        let along =
            |corner: f32, at: u32| whole(corner).saturating_add(i32::try_from(at).unwrap_or(i32::MAX));
        outline.draw(|x, y, part| dots.push((along(corner.x, x), along(corner.y, y), part)));
    }
    dots
}

/// LETTERS is the size of an em; ab_glyph's is of ascent and descent together.
fn scale(font: &FontVec) -> PxScale {
    let em = font.units_per_em().unwrap_or(1000.0);
    PxScale::from(LETTERS * font.height_unscaled() / em)
}

/// Of the sixteen colours a program may name by number none is used here.
fn color(color: Color, default: [u8; 3]) -> [u8; 3] {
    match color {
        Color::Rgb(red, green, blue) => [red, green, blue],
        Color::Default | Color::Idx(_) => default,
    }
}

fn drawn_here(letter: char) -> bool {
    matches!(letter, '─' | '│' | '└' | '╭'..='╰' | '█'..='▏' | '\u{2800}'..='\u{28ff}')
}

/// Such a letter: of each of its cell's pixels the part of sixteen points that lie in it.
fn shape(letter: char) -> Vec<Dot> {
    const POINTS: u16 = 4;
    let place = |at: u16, point: u16| f32::from(at) + (f32::from(point) + 0.5) / f32::from(POINTS);
    let part = |x: u16, y: u16| {
        let points = (0..POINTS * POINTS)
            .filter(|point| covers(letter, place(x, point % POINTS), place(y, point / POINTS)));
        points.count() as f32 / f32::from(POINTS * POINTS)
    };
    let pixels = (0_u16..).take(HEIGHT).flat_map(|y| (0_u16..).take(WIDTH).map(move |x| (x, y)));
    pixels.map(|(x, y)| (i32::from(x), i32::from(y), part(x, y))).collect()
}

fn covers(letter: char, x: f32, y: f32) -> bool {
    const HALF_LINE: f32 = 0.9;
    const DOT: f32 = 1.7;
    let (middle_x, middle_y) = (WIDTH as f32 / 2.0, HEIGHT as f32 / 2.0);
    let (across, down) = ((y - middle_y).abs() <= HALF_LINE, (x - middle_x).abs() <= HALF_LINE);
    let code = u32::from(letter);
    match letter {
        '─' => across,
        '│' => down,
        '└' => down && y <= middle_y + HALF_LINE || across && x >= middle_x,
        '╭' => rounded(WIDTH as f32 - x, HEIGHT as f32 - y, HALF_LINE),
        '╮' => rounded(x, HEIGHT as f32 - y, HALF_LINE),
        '╯' => rounded(x, y, HALF_LINE),
        '╰' => rounded(WIDTH as f32 - x, y, HALF_LINE),
        '█'..='▏' => x <= WIDTH as f32 * (0x2590 - code) as f32 / 8.0,
        _ => {
            // Bits 0 to 5 go down the left column, then the right one; 6 and 7 are the lowest pair.
            const DOTS: [(f32, f32); 8] = [
                (0.0, 0.0),
                (0.0, 1.0),
                (0.0, 2.0),
                (1.0, 0.0),
                (1.0, 1.0),
                (1.0, 2.0),
                (0.0, 3.0),
                (1.0, 3.0),
            ];
            DOTS.iter().enumerate().any(|(bit, (column, line))| {
                let (dot_x, dot_y) =
                    ((column + 0.5) * WIDTH as f32 / 2.0, (line + 0.5) * HEIGHT as f32 / 4.0);
                code >> bit & 1 != 0 && (x - dot_x).hypot(y - dot_y) <= DOT
            })
        }
    }
}

/// A corner whose arms leave the cell across and down, told by the distance from the edges that they leave it by.
fn rounded(from_side: f32, from_end: f32, half_line: f32) -> bool {
    let (middle_x, middle_y) = (WIDTH as f32 / 2.0, HEIGHT as f32 / 2.0);
    let radius = middle_x;
    // The arc's centre lies on the side's edge, so far from the line across that the arc ends in both lines.
    let down = middle_y - radius;
    if from_end <= down {
        return (from_side - middle_x).abs() <= half_line;
    }
    (from_side.hypot(from_end - down) - radius).abs() <= half_line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_meet_at_the_edges_of_their_cells() {
        let middle = (WIDTH as f32 / 2.0, HEIGHT as f32 / 2.0);
        let (right, bottom) = (WIDTH as f32 - 0.01, HEIGHT as f32 - 0.01);
        for (letter, ends) in [
            ('╭', [(right, middle.1), (middle.0, bottom)]),
            ('╮', [(0.0, middle.1), (middle.0, bottom)]),
            ('╯', [(0.0, middle.1), (middle.0, 0.0)]),
            ('╰', [(right, middle.1), (middle.0, 0.0)]),
            ('└', [(right, middle.1), (middle.0, 0.0)]),
        ] {
            assert!(ends.iter().all(|(x, y)| covers(letter, *x, *y)), "{letter}");
            assert!(!covers(letter, 0.5, 0.5) && !covers(letter, right, bottom), "{letter}");
        }
    }

    #[test]
    fn blocks_and_braille_cover_what_their_names_say() {
        let part = |letter| shape(letter).iter().map(|dot| dot.2).sum::<f32>() / (WIDTH * HEIGHT) as f32;
        assert_eq!((part('█'), part('▌'), part('⠀')), (1.0, 0.5, 0.0));
        assert!((part('▏') - 0.125).abs() < 0.01 && part('⣿') > 7.0 * part('⠁'));
        assert!(covers('⠁', 3.0, 3.0) && covers('⢀', 9.0, 21.0) && !covers('⢀', 3.0, 21.0));
    }
}
