//! Linking PTX: inputs are gathered as text; what comes of them is one text of all modules, which a
//! load takes apart again. What was compiled to machine code cannot be linked here.

use super::module::{Options, read_image, refused};
use super::{Answer, current, give, give_optional, string};
use crate::module::image::fatbin_texts;
use crate::module::object::{archive_texts, object_texts};
use crate::module::{ImageError, defines, undefined};
use crate::objects::{LINKS, Link, LinkInput};
use crate::ptx;
use paravane_protocol::cuda_types::{
    CU_JIT_INPUT_CUBIN, CU_JIT_INPUT_FATBINARY, CU_JIT_INPUT_LIBRARY, CU_JIT_INPUT_OBJECT, CU_JIT_INPUT_PTX,
    CUDA_ERROR_INVALID_HANDLE, CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_NOT_SUPPORTED, CUDA_ERROR_UNKNOWN, CUjit_option,
    CUjitInputType, CUlinkState, Pointer,
};
use std::ffi::{c_char, c_void};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

pub unsafe fn cuLinkCreate_v2(
    numOptions: u32,
    options: *mut CUjit_option,
    optionValues: *mut *mut c_void,
    stateOut: *mut CUlinkState,
) -> Answer {
    let context = current()?;
    if stateOut.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller passes arrays of `numOptions` elements.
    let options = unsafe { Options::read(numOptions, options, optionValues) };
    let error_log = options.error_log.map(|(buffer, size)| (buffer.expose_provenance(), size));
    let make = |_| Link {
        inputs: Mutex::default(),
        max_registers: options.max_registers,
        image: OnceLock::new(),
        error_log,
        context: context.owner,
    };
    give(stateOut, CUlinkState(LINKS.insert_with(make).0))
}

pub unsafe fn cuLinkCreate(
    numOptions: u32,
    options: *mut CUjit_option,
    optionValues: *mut *mut c_void,
    stateOut: *mut CUlinkState,
) -> Answer {
    // SAFETY: the same contract.
    unsafe { cuLinkCreate_v2(numOptions, options, optionValues, stateOut) }
}

fn link(state: CUlinkState) -> Answer<Arc<Link>> {
    LINKS.get(state.0).ok_or(CUDA_ERROR_INVALID_HANDLE)
}

fn tell(link: &Link, error: &ImageError) {
    let to = |(at, size)| (std::ptr::with_exposed_provenance_mut(at), size);
    Options { error_log: link.error_log.map(to), max_registers: None }.tell(error);
}

/// What one input holds: itself, or an archive's members.
fn inputs(kind: CUjitInputType, data: &[u8]) -> Result<Vec<LinkInput>, ImageError> {
    let whole = |texts: Vec<String>, is_member| LinkInput { text: texts.join("\n"), is_member };
    if kind == CU_JIT_INPUT_LIBRARY {
        return Ok(archive_texts(data)?.into_iter().map(|texts| whole(texts, true)).collect());
    }
    Ok(vec![whole(texts(kind, data)?, false)])
}

/// The PTX texts of one input, each of which is a module.
fn texts(kind: CUjitInputType, data: &[u8]) -> Result<Vec<String>, ImageError> {
    let text = |data: &[u8]| {
        let end = data.iter().position(|&byte| byte == 0).unwrap_or(data.len());
        let text = data.get(..end).and_then(|text| std::str::from_utf8(text).ok()).ok_or(ImageError::Invalid)?;
        ptx::parse(text)?;
        Ok(vec![text.to_owned()])
    };
    let fatbin = |data| Ok(fatbin_texts(data)?.into_iter().map(|text| text.into_owned()).collect());
    match kind {
        CU_JIT_INPUT_PTX => text(data),
        // What an earlier link made goes by this name, though it is text.
        CU_JIT_INPUT_CUBIN if data.starts_with(b"\x7fELF") => Err(ImageError::NoPtx(paravane_lookup::image::contents(data))),
        CU_JIT_INPUT_CUBIN => text(data),
        CU_JIT_INPUT_FATBINARY => fatbin(data),
        CU_JIT_INPUT_OBJECT => object_texts(data),
        _ => Err(ImageError::Invalid),
    }
}

pub unsafe fn cuLinkAddData_v2(
    state: CUlinkState,
    kind: CUjitInputType,
    data: Pointer,
    size: usize,
    name: *const c_char,
    _numOptions: u32,
    _options: *mut CUjit_option,
    _optionValues: *mut *mut c_void,
) -> Answer {
    current()?;
    let link = link(state)?;
    if data.is_null() || size == 0 || link.image.get().is_some() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    if kind.0 > CU_JIT_INPUT_LIBRARY.0 {
        return Err(CUDA_ERROR_NOT_SUPPORTED);
    }
    // SAFETY: the caller passes `size` bytes.
    let data = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), size) };
    match inputs(kind, data) {
        Ok(more) => {
            link.inputs.lock().unwrap_or_else(PoisonError::into_inner).extend(more);
            Ok(())
        }
        Err(error) => {
            // SAFETY: the caller passes NULL or a C string.
            log::debug!("link input {}: {error}", unsafe { string(name) }.unwrap_or("?"));
            tell(&link, &error);
            Err(refused(&error))
        }
    }
}

pub unsafe fn cuLinkAddData(
    state: CUlinkState,
    kind: CUjitInputType,
    data: Pointer,
    size: usize,
    name: *const c_char,
    numOptions: u32,
    options: *mut CUjit_option,
    optionValues: *mut *mut c_void,
) -> Answer {
    // SAFETY: the same contract.
    unsafe { cuLinkAddData_v2(state, kind, data, size, name, numOptions, options, optionValues) }
}

pub unsafe fn cuLinkAddFile_v2(
    state: CUlinkState,
    kind: CUjitInputType,
    path: *const c_char,
    numOptions: u32,
    options: *mut CUjit_option,
    optionValues: *mut *mut c_void,
) -> Answer {
    current()?;
    link(state)?;
    // SAFETY: the caller passes a C string.
    let mut bytes = read_image(unsafe { string(path) }?)?;
    // SAFETY: the bytes outlive the call; the rest is the caller's.
    unsafe {
        cuLinkAddData_v2(state, kind, bytes.as_mut_ptr().cast(), bytes.len(), path, numOptions, options, optionValues)
    }
}

pub unsafe fn cuLinkAddFile(
    state: CUlinkState,
    kind: CUjitInputType,
    path: *const c_char,
    numOptions: u32,
    options: *mut CUjit_option,
    optionValues: *mut *mut c_void,
) -> Answer {
    // SAFETY: the same contract.
    unsafe { cuLinkAddFile_v2(state, kind, path, numOptions, options, optionValues) }
}

/// The text of all inputs, and of those members of archives that something in it needs.
fn gather(inputs: &[LinkInput]) -> Result<String, ImageError> {
    let (mut members, rest): (Vec<_>, Vec<_>) = inputs.iter().partition(|input| input.is_member);
    let mut text = rest.iter().map(|input| input.text.as_str()).collect::<Vec<_>>().join("\n");
    loop {
        let missing = if members.is_empty() { Vec::new() } else { undefined(&text)? };
        let mut found = None;
        for (number, member) in members.iter().enumerate() {
            if defines(&member.text, &missing)? {
                found = Some(number);
                break;
            }
        }
        let Some(number) = found else { return Ok(text) };
        text.push('\n');
        text.push_str(&members.swap_remove(number).text);
    }
}

pub unsafe fn cuLinkComplete(state: CUlinkState, cubinOut: *mut Pointer, sizeOut: *mut usize) -> Answer {
    current()?;
    let link = link(state)?;
    if cubinOut.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let linked = gather(&link.inputs.lock().unwrap_or_else(PoisonError::into_inner)).and_then(|text| {
        let missing = undefined(&text)?;
        missing.first().map_or(Ok(text), |name| Err(ImageError::Link(format!("undefined reference to `{name}`"))))
    });
    let text = match linked {
        Ok(text) => text,
        Err(error) => {
            tell(&link, &error);
            let code = refused(&error);
            return Err(if matches!(error, ImageError::Link(_)) { CUDA_ERROR_UNKNOWN } else { code });
        }
    };
    let options = Options { error_log: None, max_registers: link.max_registers };
    let text = options.applied(text.into());
    // The NUL belongs to the image: it ends the text for a load that knows no size.
    let image = link.image.get_or_init(|| [text.as_bytes(), &[0]].concat());
    give_optional(sizeOut, image.len());
    give(cubinOut, image.as_ptr().cast_mut().cast())
}

pub unsafe fn cuLinkDestroy(state: CUlinkState) -> Answer {
    LINKS.remove(state.0).map(drop).ok_or(CUDA_ERROR_INVALID_HANDLE)
}
