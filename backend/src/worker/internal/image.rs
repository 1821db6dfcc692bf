//! An image arrives: its pieces are taken out of staging in their order.

use paravane_protocol::limits::{IMAGE_BYTES_MAX, STAGING_SLOT_BYTES};
use paravane_protocol::shared::Shared;

use super::take_area;
use crate::worker::dispatch::Command;
use crate::worker::libcuda::Answer;
use paravane_protocol::cuda_types::*;

/// In: bytes.
pub(super) fn begin(command: &mut Command) -> Answer {
    let bytes = command.from.word();
    command.read_all()?;
    if bytes > IMAGE_BYTES_MAX {
        return Err(CUDA_ERROR_INVALID_IMAGE);
    }
    command.thread.image_bytes = bytes;
    // Grows by the bytes that come, not by what is claimed.
    command.thread.image = Vec::new();
    Ok(())
}

/// In: offset in the image, area, offset in it, bytes.
pub(super) fn piece(command: &mut Command) -> Answer {
    let at = command.from.word();
    let area = take_area(command);
    let offset = command.from.word();
    let bytes = command.from.word();
    command.read_all()?;
    let thread = &mut *command.thread;
    let behind = thread.image.len() as u64 == at;
    let fits = at.checked_add(bytes).is_some_and(|end| end <= thread.image_bytes);
    if !behind || !fits || bytes > u64::from(STAGING_SLOT_BYTES) {
        thread.broke_protocol("a piece of an image is out of place");
    }
    let process = thread.process();
    let mapping = process.areas.mapped(area?).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    mapping.address(offset, bytes).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let start = thread.image.len();
    thread.image.resize(start + usize::from_word(bytes), 0);
    mapping.pages().read(usize::from_word(offset), &mut thread.image[start..]);
    if thread.image.len() as u64 == thread.image_bytes {
        process.output.note_image(&thread.image);
    }
    Ok(())
}
