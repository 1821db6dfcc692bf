//! Loading an image of 50 MB: the first time in a process, and again. The image
//! is PTX that is nearly all comment, so that bringing it is what takes time,
//! not compiling it.

use std::ffi::CString;
use std::time::Instant;

use anyhow::Result;

use crate::cuda::Cuda;
use crate::figure::{Figure, unit};
use crate::stats::median;

const BYTES: usize = 50_000_000;
const AGAIN: usize = 5;

fn image() -> Result<CString> {
    let line = b"// what an image carries besides: a table of constants, line information, code of other kernels\n";
    let mut text = b".version 6.0\n.target sm_70\n.address_size 64\n".to_vec();
    while text.len() + line.len() < BYTES {
        text.extend_from_slice(line);
    }
    text.extend_from_slice(b".visible .entry only()\n{\n    ret;\n}\n");
    Ok(CString::new(text)?)
}

pub(crate) fn run(cuda: &Cuda, quick: bool) -> Result<()> {
    cuda.init()?;
    let session = cuda.session()?;
    let image = image()?;
    let load = || -> Result<f64> {
        let begun = Instant::now();
        let module = session.load(&image)?;
        let taken = begun.elapsed().as_secs_f64() * 1e3;
        session.unload(module)?;
        Ok(taken)
    };
    Figure::new("load of a 50 MB image, first", load()?, unit::MS).tell();
    let times = if quick { 3 } else { AGAIN };
    let mut again = (0..times).map(|_| load()).collect::<Result<Vec<_>>>()?;
    Figure::new("load of a 50 MB image, again", median(&mut again), unit::MS).tell();
    Ok(())
}
