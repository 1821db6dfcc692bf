//! CUDA_VISIBLE_DEVICES: which of the devices that there are a process sees, and in which order. cpu-driver reads
//! the variable like this; a worker reads the guest's so, within what the operator lets the VM see.

use std::collections::HashSet;

/// What libcuda reads when it is initialised.
pub const ENV_VISIBLE: &str = "CUDA_VISIBLE_DEVICES";

/// A UUID as NVIDIA's tools write it.
pub fn uuid_text(bytes: [u8; 16]) -> String {
    let mut text = "GPU-".to_owned();
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// Places in `uuids` that `list` names, in its order: ordinals, or UUIDs as far as they name one alone, never
/// both. The first element that names nothing ends the list; one that comes twice makes it empty. An ordinal ends
/// where its digits do, as in NVIDIA's library.
pub fn visible(list: &str, uuids: &[String]) -> Vec<usize> {
    let names = list.trim_start().starts_with(|first: char| first.is_ascii_alphabetic());
    let place = |element: &str| if names { by_uuid(element, uuids) } else { by_ordinal(element, uuids.len()) };
    let places: Vec<usize> = list.split(',').map_while(|element| place(element.trim())).collect();
    let different: HashSet<usize> = places.iter().copied().collect();
    if different.len() < places.len() { Vec::new() } else { places }
}

fn by_ordinal(element: &str, count: usize) -> Option<usize> {
    let end = element.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(element.len());
    element.get(..end)?.parse().ok().filter(|ordinal| *ordinal < count)
}

/// The beginning of a UUID is enough, with the word before it.
fn by_uuid(element: &str, uuids: &[String]) -> Option<usize> {
    let (kind, _) = element.split_once('-')?;
    let mut found = uuids.iter().enumerate().filter(|(_, uuid)| uuid.starts_with(element));
    let (place, _) = found.next().filter(|_| !kind.is_empty())?;
    found.next().is_none().then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uuids() -> Vec<String> {
        [0x10, 0x11, 0x20].map(|first| uuid_text([first; 16])).to_vec()
    }

    #[test]
    fn a_uuid_is_written_as_nvidias_tools_do() {
        let bytes = [0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(uuid_text(bytes), "GPU-12345678-9abc-def0-0102-030405060708");
    }

    #[test]
    fn ordinals_choose_and_order() {
        for (list, places) in [
            ("0,1,2", &[0, 1, 2][..]),
            ("2,0", &[2, 0]),
            (" 1 , 0 ", &[1, 0]),
            ("1x,2y", &[1, 2]),
            ("", &[]),
            ("-1", &[]),
            ("-1,0", &[]),
            ("0,3,1", &[0]),
            ("1,,0", &[1]),
            ("none", &[]),
            ("0,1,0", &[]),
            ("99999999999999999999", &[]),
        ] {
            assert_eq!(visible(list, &uuids()), places, "{list:?}");
        }
    }

    #[test]
    fn a_uuid_may_be_cut_where_it_still_names_one() {
        let [whole, second, _] = &*uuids() else { panic!("three devices") };
        for (list, places) in [
            (format!("{second},{whole}"), &[1, 0][..]),
            ("GPU-2".into(), &[2]),
            ("GPU-10,GPU-2".into(), &[0, 2]),
            // Of two.
            ("GPU-2,GPU-1".into(), &[2]),
            ("GPU-2,GPU-7,GPU-10".into(), &[2]),
            // Twice, mixed, and of another kind.
            ("GPU-2,GPU-20".into(), &[]),
            ("GPU-2,0".into(), &[2]),
            ("0,GPU-2".into(), &[0]),
            ("MIG-2".into(), &[]),
            ("2020".into(), &[]),
        ] {
            assert_eq!(visible(&list, &uuids()), places, "{list:?}");
        }
    }
}
