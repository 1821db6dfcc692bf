//! CuPy, whose wheel carries no tests: `tests/clients/cupy` compares its public functions with NumPy's.

use std::time::Duration;

use anyhow::Result;

use super::guest::{self, Luggage, Part, Program};
use super::python;
use super::scripts::{Script, Value};
use super::suite::{self, Client, Ready, Verdict};

const COMPARISON: Script = Script {
    name: "cupy",
    about: "over 300 of CuPy's public functions, each beside NumPy's",
    environment_name: "cupy",
    capability: "8.0",
    version: "14.2.0",
    packages: &[
        "cupy-cuda13x==14.2.0",
        "numpy==2.4.6",
        "nvidia-cuda-nvrtc==13.5.37",
        "nvidia-cuda-runtime==13.5.37",
        "nvidia-cublas==13.4.1.3",
        "nvidia-cufft==12.2.0.57",
        "nvidia-curand==10.4.2.66",
    ],
    size: "1.2 GB",
    script: "tests/clients/cupy/compare.py",
    // What NVRTC makes is PTX, so that every device with a compiler runs it.
    environment: &[("CUPY_COMPILE_WITH_PTX", Value::Text("1"))],
    // Every function is compiled at its first use.
    limit: Duration::from_secs(40 * 60),
    compiles: false,
};
/// cuBLAS by its PTX, which it launches on devices that are newer than it is.
pub(crate) const PRODUCTS: Script = Script {
    name: "cublas",
    about: "products of cuBLAS, through CuPy, each beside NumPy's",
    version: "13.4.1",
    capability: "13.0",
    script: "tests/clients/cupy/products.py",
    limit: Duration::from_secs(10 * 60),
    ..COMPARISON
};
/// Without the libraries of machine code.
const GUEST_PACKAGES: &[&str] =
    &["cupy-cuda13x==14.2.0", "numpy==2.4.6", "nvidia-cuda-nvrtc==13.5.37", "nvidia-cuda-runtime==13.5.37"];
/// Parts of names: what runs in a guest, where a function takes 20 times as long to compile.
const IN_A_GUEST: &[&str] = &["own.", "sort"];
const GUEST_LIMIT_S: u32 = 900;

pub(crate) struct Cupy;

impl Client for Cupy {
    fn name(&self) -> &'static str {
        COMPARISON.name
    }

    fn about(&self) -> &'static str {
        COMPARISON.about
    }

    fn prepare(&self) -> Result<Box<dyn Ready>> {
        COMPARISON.prepare()
    }

    fn guest_part(&self, luggage: &mut Luggage) -> Result<Option<Part>> {
        let tests = guest::pack_tests(luggage, "cupy")?;
        guest::pack_tests(luggage, "lines.py")?;
        let site = python::guest_disk("cupy", "450 MB", GUEST_PACKAGES, &[])?;
        let program = |filter: &&str| Program {
            name: format!("cupy {filter}"),
            command: format!("CUPY_COMPILE_WITH_PTX=1 CUPY_CACHE_DIR=$HOME/cupy python3 {tests}/compare.py {filter}"),
            limit_s: GUEST_LIMIT_S,
            judge: |said| {
                let mut tests = suite::lines(said.text);
                if said.status != Some(0) || tests.is_empty() {
                    let last = said.text.lines().last().unwrap_or_default();
                    tests.insert(said.name.to_owned(), Verdict::Failed(format!("ended with {:?}: {last}", said.status)));
                }
                tests
            },
        };
        Ok(Some(Part { client: self.name(), site: Some(site), programs: IN_A_GUEST.iter().map(program).collect() }))
    }
}
