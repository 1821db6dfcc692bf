//! The library must stay mapped once loaded: its threads and thread-local destructors outlive a
//! program's dlclose.

fn main() {
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo:rerun-if-changed=build.rs");
}
