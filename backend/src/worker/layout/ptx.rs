//! Parameters of the kernels in PTX text (PTX ISA, "Kernel Function
//! Parameters"): a scan for `.entry`, no parser.

use paravane_protocol::limits::KERNEL_PARAMS_MAX;

use super::{Layouts, Param};

/// Words and single signs, without comments.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else { return tokens };
        if let Some(comment) = rest.strip_prefix("//") {
            rest = comment.find('\n').map_or("", |end| &comment[end..]);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.find("*/").map_or("", |end| &comment[end + 2..]);
        } else {
            let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '.' | '%');
            let length = rest.find(|c| !word(c)).unwrap_or(rest.len()).max(first.len_utf8());
            let (token, behind) = rest.split_at(length);
            tokens.push(token);
            rest = behind;
        }
    }
}

pub(super) fn layouts(text: &str) -> Layouts {
    let tokens = tokens(text);
    let entries = tokens.iter().enumerate().filter(|(_, token)| **token == ".entry");
    entries
        .filter_map(|(at, _)| {
            let name = tokens.get(at + 1)?;
            Some(((*name).to_owned(), params(tokens.get(at + 2..)?)?))
        })
        .collect()
}

/// From what follows an entry's name; `None`: not understood.
fn params(tokens: &[&str]) -> Option<Vec<Param>> {
    if tokens.first() != Some(&"(") {
        return Some(Vec::new());
    }
    let end = tokens.iter().position(|token| *token == ")")?;
    let list = tokens.get(1..end)?;
    let mut params = Vec::new();
    let mut at = 0_u64;
    for declaration in list.split(|token| *token == ",").filter(|param| !param.is_empty()) {
        let (size, align) = size_and_align(declaration)?;
        at = at.checked_next_multiple_of(align)?;
        params.push((at, size));
        at = at.checked_add(size)?;
        if params.len() > KERNEL_PARAMS_MAX as usize {
            return None;
        }
    }
    Some(params)
}

/// `.param .align 8 .b8 name[64]`, `.param .u64 .ptr .global .align 4 name`.
fn size_and_align(declaration: &[&str]) -> Option<(u64, u64)> {
    let at = declaration.iter().position(|token| type_bytes(token).is_some())?;
    let each = type_bytes(declaration.get(at)?)?;
    // An alignment before the type is the parameter's; behind `.ptr` it is
    // that of what the pointer points to.
    let before = declaration.get(..at)?;
    let align = before.iter().position(|token| *token == ".align");
    let align = match align {
        Some(align) => before.get(align + 1)?.parse().ok().filter(|align| *align > 0)?,
        None => each,
    };
    let count = match declaration.iter().position(|token| *token == "[") {
        Some(bracket) => declaration.get(bracket + 1)?.parse().ok()?,
        None => 1,
    };
    Some((each.checked_mul(count)?, align))
}

fn type_bytes(token: &str) -> Option<u64> {
    Some(match token {
        ".b8" | ".u8" | ".s8" => 1,
        ".b16" | ".u16" | ".s16" | ".f16" | ".bf16" => 2,
        ".b32" | ".u32" | ".s32" | ".f32" | ".f16x2" | ".bf16x2" => 4,
        ".b64" | ".u64" | ".s64" | ".f64" | ".texref" | ".samplerref" | ".surfref" => 8,
        ".b128" => 16,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_follow_alignment() {
        let text = "
            .version 8.0 // .entry not_this(
            /* .entry nor_this( .param .u8 a ) */
            .visible .entry scale(
                .param .u8 flag,
                .param .u64 .ptr .global .align 1 data,
                .param .align 16 .b8 matrix[20],
                .param .f16 half
            ) .maxntid 128, 1, 1 { ret; }
            .func helper(.param .b64 x) { ret; }
            .entry none() { ret; }
            .entry bare { ret; }";
        let layouts = layouts(text);
        assert_eq!(layouts["scale"], [(0, 1), (8, 8), (16, 20), (36, 2)]);
        assert!(layouts["none"].is_empty() && layouts["bare"].is_empty());
        assert_eq!(layouts.len(), 3);
    }

    #[test]
    fn what_is_not_understood_is_left_out() {
        assert!(layouts(".entry k(.param .v4 x)").is_empty());
        assert!(layouts(".entry k(.param .u32 x").is_empty());
        assert!(layouts(".entry k(.param .align 0 .b8 x[4])").is_empty());
        assert!(layouts(".entry k(.param .b64 x[18446744073709551615])").is_empty());
        assert!(layouts(".entry").is_empty());
        assert!(layouts("/* never closed").is_empty());
    }
}
