//! What the renderer can do, asked once when the backend starts: capsets virgl
//! and virgl2, from which the guest's Mesa reads what the host's OpenGL has; and
//! whether others on the host can have its textures.
#![deny(clippy::indexing_slicing)]

use std::io;
use std::process::Stdio;

use serde_json::Value;

use super::Program;

/// A capset, as GET_CAPSET_INFO and GET_CAPSET tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capset {
    /// 1 for virgl, 2 for virgl2.
    pub id: u32,
    /// Its highest version.
    pub version: u32,
    /// What the guest is told.
    pub data: Vec<u8>,
}

/// More than any version of virgl's capsets has.
const CAPSET_BYTES_MAX: usize = 65_536;

impl Capset {
    fn read(value: &Value) -> Option<Self> {
        let number = |name: &str| value.get(name)?.as_u64().and_then(|number| u32::try_from(number).ok());
        let data = value.get("data")?.as_array()?;
        let byte = |byte: &Value| byte.as_u64().and_then(|byte| u8::try_from(byte).ok());
        let data: Option<Vec<u8>> = data.iter().take(CAPSET_BYTES_MAX).map(byte).collect();
        Some(Self { id: number("id")?, version: number("version")?, data: data? })
    }
}

/// What a renderer can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// virgl and virgl2, and venus.
    pub capsets: Vec<Capset>,
    /// Whether textures can be dma-bufs; else why not.
    pub dmabuf: Result<(), String>,
}

impl Abilities {
    fn read(said: &Value) -> Option<Self> {
        let list = said.get("capsets").and_then(Value::as_array);
        let capsets: Option<Vec<Capset>> = list.into_iter().flatten().map(Capset::read).collect();
        let why = said.get("no_dmabuf").and_then(Value::as_str).unwrap_or("the renderer does not say that it gives textures out");
        let exports = said.get("dmabuf").and_then(Value::as_bool).unwrap_or(false);
        let dmabuf = if exports { Ok(()) } else { Err(why.to_owned()) };
        capsets.filter(|list| !list.is_empty()).map(|capsets| Self { capsets, dmabuf })
    }
}

/// Has the renderer say what it can do.
///
/// # Errors
/// It cannot be started, or the host has no OpenGL for it.
pub fn probe(renderer: &Program) -> io::Result<Abilities> {
    let output = renderer.command("probe").stdin(Stdio::null()).stderr(Stdio::piped()).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.trim().lines().last().unwrap_or("it says nothing");
        return Err(io::Error::other(format!("{}: {last}", output.status)));
    }
    let said: Value = serde_json::from_slice(&output.stdout)?;
    Abilities::read(&said).ok_or_else(|| io::Error::other("it has no capset"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_capset_is_read_or_refused_whole() {
        let good = json!({ "id": 2, "version": 1, "data": [1, 255] });
        assert_eq!(Capset::read(&good), Some(Capset { id: 2, version: 1, data: vec![1, 255] }));
        for bad in [json!({ "id": 2, "version": 1, "data": [256] }), json!({ "id": -1, "version": 1, "data": [] })] {
            assert_eq!(Capset::read(&bad), None);
        }
    }

    #[test]
    fn textures_are_dma_bufs_where_the_renderer_says_so() {
        let capsets = json!([{ "id": 1, "version": 1, "data": [] }]);
        let dmabuf = |said: &Value| Abilities::read(said).map(|can| can.dmabuf);
        assert_eq!(dmabuf(&json!({ "capsets": capsets, "dmabuf": true, "no_dmabuf": null })), Some(Ok(())));
        let refused = json!({ "capsets": capsets, "dmabuf": false, "no_dmabuf": "no EGL" });
        assert_eq!(dmabuf(&refused), Some(Err("no EGL".into())));
        assert!(matches!(dmabuf(&json!({ "capsets": capsets })), Some(Err(_))), "an older renderer");
        assert_eq!(dmabuf(&json!({ "capsets": [], "dmabuf": true })), None);
    }

    #[test]
    fn a_renderer_that_fails_is_told_with_its_words() {
        // One that was just written may be busy: another thread's child may have it open still.
        let program = |path: &str| Program { path: path.into(), render_node: None, vulkan: false };
        let error = probe(&program("/bin/ls")).unwrap_err().to_string();
        assert!(error.contains("'probe'") && error.contains('2'), "{error}");
        assert!(probe(&program("/nowhere/renderer")).is_err());
    }
}
