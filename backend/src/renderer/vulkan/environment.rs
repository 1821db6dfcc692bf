//! What a render server is started with, so that Vulkan's loader brings the layer
//! into its processes, and the layer shuts them in.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use paravane_protocol::vulkan::{ENV_SOCKET, LAYER};

/// Tells Vulkan's loader of the layer. Lies beside it.
const MANIFEST: &str = include_str!("../../../../vulkan-layer/VkLayer_PARAVANE_lease.json");
const MANIFEST_NAME: &str = "VkLayer_PARAVANE_lease.json";
/// The library's name, as the manifest has it.
const LIBRARY: &str = "libparavane_vulkan_layer.so";

const PRELOAD: &str = "LD_PRELOAD";

/// What to set for a render server that inherits `socket` under its number, with the
/// layer that `layer` is. Its manifest is written beside it where there is none, or an
/// older one.
///
/// # Errors
/// There is no such layer, it lies where no list of paths can name it, or its manifest
/// cannot be written.
pub fn environment(layer: &Path, socket: BorrowedFd<'_>) -> io::Result<Vec<(&'static str, OsString)>> {
    // Absolute: the server may look from elsewhere.
    let layer = layer.canonicalize()?;
    let folder = layer.parent().filter(|_| layer.file_name() == Some(OsStr::new(LIBRARY)));
    let folder = folder.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("the layer's name is not {LIBRARY}")))?;
    if layer.as_os_str().as_encoded_bytes().iter().any(|byte| b": ".contains(byte)) {
        let what = format!("{}: LD_PRELOAD has no paths with spaces or colons", layer.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    put_manifest(folder)?;
    let mut preload = layer.clone().into_os_string();
    if let Some(others) = std::env::var_os(PRELOAD).filter(|others| !others.is_empty()) {
        preload.push(":");
        preload.push(others);
    }
    Ok(vec![
        // Before a byte of a guest's is read it enters the sandbox.
        (PRELOAD, preload),
        ("VK_LAYER_PATH", folder.into()),
        ("VK_INSTANCE_LAYERS", LAYER.into()),
        // Who switches layers off switches this one off too.
        ("VK_LOADER_LAYERS_DISABLE", OsString::new()),
        (ENV_SOCKET, socket.as_raw_fd().to_string().into()),
    ])
}

fn put_manifest(folder: &Path) -> io::Result<()> {
    let path = folder.join(MANIFEST_NAME);
    if fs::read(&path).is_ok_and(|there| there == MANIFEST.as_bytes()) {
        return Ok(());
    }
    let written = tempfile::NamedTempFile::new_in(folder).and_then(|mut file| {
        file.write_all(MANIFEST.as_bytes())?;
        file.as_file().set_permissions(Permissions::from_mode(0o644))?;
        file.persist(&path)?;
        Ok(())
    });
    written.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_manifest_lies_beside_the_layer_and_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let socket = fs::File::open("/dev/null").unwrap();
        let layer = folder.path().join(LIBRARY);
        assert!(environment(&layer, socket.as_fd()).is_err(), "no layer there");
        fs::write(&layer, "").unwrap();
        for _ in 0..2 {
            let set = environment(&layer, socket.as_fd()).unwrap();
            let of = |name| set.iter().find(|(of, _)| *of == name).map(|(_, value)| value.clone()).unwrap();
            assert_eq!(of(ENV_SOCKET), OsString::from(socket.as_raw_fd().to_string()));
            let manifest = Path::new(&of("VK_LAYER_PATH")).join(MANIFEST_NAME);
            let manifest: serde_json::Value = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
            assert_eq!(manifest["layer"]["name"], LAYER);
            assert_eq!(manifest["layer"]["library_path"], format!("./{LIBRARY}"));
            // An older release's is replaced.
            fs::write(folder.path().join(MANIFEST_NAME), "{}").unwrap();
        }
        let other = folder.path().join("other.so");
        fs::write(&other, "").unwrap();
        assert!(environment(&other, socket.as_fd()).is_err(), "the manifest would not name it");
        let spaced = folder.path().join("a b");
        fs::create_dir(&spaced).unwrap();
        fs::copy(&layer, spaced.join(LIBRARY)).unwrap();
        assert!(environment(&spaced.join(LIBRARY), socket.as_fd()).is_err());
    }
}
