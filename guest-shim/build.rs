//! Gives the library the name under which CUDA programs ask for it, and keeps
//! it mapped once loaded: its threads and handlers outlive a program's dlclose.

fn main() {
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcuda.so.1");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo:rerun-if-changed=build.rs");
}
