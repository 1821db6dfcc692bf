//! Draws a recorded stream on a back end, without a VM: `replay SOCKET RECORDING PICTURE.ppm WIDTH HEIGHT`. Says what it
//! compared, writes the picture that the program read in the end, and ends with 1 if too much of it is another.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::path::Path;
use std::process::ExitCode;

use paravane_tests::recording::read_all;
use paravane_tests::replay::replay;

/// A byte of a pixel may differ by so much: drivers round differently.
const ALLOWED: u8 = 3;
/// And so many thousandths of the bytes by any amount: edges fall one way or the other.
const BEYOND_MAX: usize = 5;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, recording, picture, width, height] = &arguments[..] else {
        eprintln!("usage: replay SOCKET RECORDING PICTURE.ppm WIDTH HEIGHT");
        return ExitCode::from(2);
    };
    let records = read_all(File::open(recording).unwrap()).unwrap();
    let replayed = replay(Path::new(socket), &records, ALLOWED);
    let (width, height): (usize, usize) = (width.parse().unwrap(), height.parse().unwrap());
    let mut ppm = format!("P6\n{width} {height}\n255\n").into_bytes();
    // OpenGL's rows go upwards.
    for row in replayed.last.chunks_exact(width * 4).take(height).rev() {
        ppm.extend(row.chunks(4).flat_map(|pixel| &pixel[..3]));
    }
    fs::write(picture, ppm).unwrap();
    let good = replayed.compared > 0 && replayed.beyond * 1000 <= replayed.compared * BEYOND_MAX;
    println!(
        "replay: {}: {} commands, {} of {} bytes differ by more than {ALLOWED}, at most by {}",
        if good { "PASS" } else { "FAIL" },
        replayed.commands,
        replayed.beyond,
        replayed.compared,
        replayed.most
    );
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
