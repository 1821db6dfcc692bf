//! What a program has said about managed memory: advice, prefetches, and the
//! attributes that tell of them. Shim and cpu-driver keep managed memory where
//! host and device both reach it at any time, so none of this moves a byte;
//! but a program may ask what it has said. Pure bookkeeping.

use std::collections::BTreeMap;

use crate::cuda_types::*;

/// CU_DEVICE_CPU: the host, where a device's ordinal is expected.
pub const HOST: i32 = -1;
/// CU_DEVICE_INVALID: no location, or different ones.
pub const NOWHERE: i32 = -2;

/// A place that memory can be wanted at: `None` for none.
type Location = Option<CUmemLocation>;

/// What was said about a stretch of memory.
#[derive(Clone, Debug, Default, PartialEq)]
struct Said {
    read_mostly: bool,
    preferred: Location,
    prefetched: Location,
    accessed_by: Vec<i32>,
}

/// One stretch: where it ends, and what was said about it.
type Stretch = (u64, Said);

/// All managed memory of a process.
#[derive(Debug, Default)]
pub struct Managed {
    /// By their begin; stretches of one allocation follow each other.
    stretches: BTreeMap<u64, Stretch>,
}

type Answer<T = ()> = Result<T, CUresult>;

/// A device ordinal or [`HOST`] as a location.
pub fn location_of(device: i32) -> CUmemLocation {
    if device == HOST {
        CUmemLocation { kind: CU_MEM_LOCATION_TYPE_HOST, id: 0 }
    } else {
        CUmemLocation { kind: CU_MEM_LOCATION_TYPE_DEVICE, id: device }
    }
}

/// Refuses a location that is neither one of `devices` nor the host.
fn check(location: CUmemLocation, devices: i32) -> Answer {
    match location.kind {
        CU_MEM_LOCATION_TYPE_DEVICE if (0..devices).contains(&location.id) => Ok(()),
        CU_MEM_LOCATION_TYPE_DEVICE => Err(CUDA_ERROR_INVALID_DEVICE),
        CU_MEM_LOCATION_TYPE_HOST
        | CU_MEM_LOCATION_TYPE_HOST_NUMA
        | CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT => Ok(()),
        _ => Err(CUDA_ERROR_INVALID_VALUE),
    }
}

/// A location as the older attributes name it.
fn ordinal(location: Location) -> i32 {
    match location {
        None => NOWHERE,
        Some(CUmemLocation { kind: CU_MEM_LOCATION_TYPE_DEVICE, id }) => id,
        Some(_) => HOST,
    }
}

impl Managed {
    /// Memory of `bytes` from `start` exists.
    pub fn add(&mut self, start: u64, bytes: u64) {
        self.remove(start, bytes);
        self.stretches.insert(start, (start.saturating_add(bytes), Said::default()));
    }

    /// The memory from `start` to `start + bytes` is gone.
    pub fn remove(&mut self, start: u64, bytes: u64) {
        let end = start.saturating_add(bytes);
        self.stretches.retain(|at, _| !(start..end).contains(at));
    }

    /// Begins of the stretches that touch the range, all of which is managed.
    fn touched(&self, start: u64, bytes: u64) -> Answer<Vec<u64>> {
        let end = start.checked_add(bytes).filter(|end| *end > start).ok_or(CUDA_ERROR_INVALID_VALUE)?;
        let mut at = start;
        let mut found = Vec::new();
        while at < end {
            let before = self.stretches.range(..=at).next_back();
            let (begin, (stop, _)) = before.filter(|(_, (stop, _))| *stop > at).ok_or(CUDA_ERROR_INVALID_VALUE)?;
            found.push(*begin);
            at = *stop;
        }
        Ok(found)
    }

    /// Changes what is said about a range.
    fn change(&mut self, start: u64, bytes: u64, change: impl Fn(&mut Said)) -> Answer {
        self.touched(start, bytes)?;
        for edge in [start, start + bytes] {
            let before = self.stretches.range_mut(..edge).next_back();
            if let Some((_, (stop, said))) = before.filter(|(_, (stop, _))| *stop > edge) {
                let rest = (*stop, said.clone());
                *stop = edge;
                self.stretches.insert(edge, rest);
            }
        }
        for (_, (_, said)) in self.stretches.range_mut(start..start + bytes) {
            change(said);
        }
        Ok(())
    }

    /// cuMemAdvise, with as many devices as there are.
    pub fn advise(
        &mut self,
        start: u64,
        bytes: u64,
        advice: CUmem_advise,
        location: CUmemLocation,
        devices: i32,
    ) -> Answer {
        // Reading mostly concerns no location.
        if !matches!(advice.0, 1 | 2 | 4) {
            check(location, devices)?;
        }
        let who = ordinal(Some(location));
        match advice {
            CU_MEM_ADVISE_SET_READ_MOSTLY => self.change(start, bytes, |said| said.read_mostly = true),
            CU_MEM_ADVISE_UNSET_READ_MOSTLY => self.change(start, bytes, |said| said.read_mostly = false),
            CU_MEM_ADVISE_SET_PREFERRED_LOCATION => {
                self.change(start, bytes, |said| said.preferred = Some(location))
            }
            CU_MEM_ADVISE_UNSET_PREFERRED_LOCATION => {
                self.change(start, bytes, |said| said.preferred = None)
            }
            CU_MEM_ADVISE_SET_ACCESSED_BY => self.change(start, bytes, |said| {
                if !said.accessed_by.contains(&who) {
                    said.accessed_by.push(who);
                }
            }),
            CU_MEM_ADVISE_UNSET_ACCESSED_BY => {
                self.change(start, bytes, |said| said.accessed_by.retain(|known| *known != who))
            }
            _ => Err(CUDA_ERROR_INVALID_VALUE),
        }
    }

    /// cuMemPrefetchAsync.
    pub fn prefetch(&mut self, start: u64, bytes: u64, location: CUmemLocation, devices: i32) -> Answer {
        check(location, devices)?;
        self.change(start, bytes, |said| said.prefetched = Some(location))
    }

    /// cuMemGetLocationInfo: how many regions a range has. All of it lies with the host.
    pub fn regions(&self, start: u64, bytes: u64, summary: u64, sampling: u64) -> Answer<u64> {
        if summary == 0 || summary > bytes || sampling > summary || !self.holds(start, bytes) {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        Ok(bytes.div_ceil(summary))
    }

    /// Whether all of a range is managed memory.
    pub fn holds(&self, start: u64, bytes: u64) -> bool {
        self.touched(start, bytes).is_ok()
    }

    /// cuMemRangeGetAttribute: the attribute's value as `bytes` bytes.
    pub fn attribute(
        &self,
        attribute: CUmem_range_attribute,
        bytes: usize,
        start: u64,
        count: u64,
    ) -> Answer<Vec<u8>> {
        let touched = self.touched(start, count)?;
        let said: Vec<&Said> =
            touched.iter().filter_map(|at| self.stretches.get(at)).map(|(_, said)| said).collect();
        let same = |of: fn(&Said) -> Location| {
            let first = said.first().and_then(|said| of(said));
            if said.iter().all(|said| of(said) == first) { first } else { None }
        };
        let (preferred, prefetched) = (|said: &Said| said.preferred, |said: &Said| said.prefetched);
        let kind = |location: Location| location.map_or(0, |location| location.kind.0.cast_signed());
        let id = |location: Location| location.map_or(0, |location| location.id);
        let value = match attribute {
            CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY => i32::from(said.iter().all(|said| said.read_mostly)),
            CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION => ordinal(same(preferred)),
            CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION => ordinal(same(prefetched)),
            CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_TYPE => kind(same(preferred)),
            CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_ID => id(same(preferred)),
            CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_TYPE => kind(same(prefetched)),
            CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_ID => id(same(prefetched)),
            CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY => {
                if bytes == 0 || !bytes.is_multiple_of(4) {
                    return Err(CUDA_ERROR_INVALID_VALUE);
                }
                let by_all = |who: &&i32| said.iter().all(|said| said.accessed_by.contains(who));
                let first = said.first().map_or(&[][..], |said| &said.accessed_by);
                let all = first.iter().filter(by_all).copied().chain(std::iter::repeat(NOWHERE));
                return Ok(all.take(bytes / 4).flat_map(i32::to_le_bytes).collect());
            }
            _ => return Err(CUDA_ERROR_INVALID_VALUE),
        };
        if bytes == 4 { Ok(value.to_le_bytes().to_vec()) } else { Err(CUDA_ERROR_INVALID_VALUE) }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    const GPU: CUmemLocation = CUmemLocation { kind: CU_MEM_LOCATION_TYPE_DEVICE, id: 0 };

    fn int(managed: &Managed, attribute: CUmem_range_attribute, start: u64, count: u64) -> i32 {
        let bytes = managed.attribute(attribute, 4, start, count).unwrap();
        i32::from_le_bytes(bytes.try_into().unwrap())
    }

    #[test]
    fn advice_holds_for_the_range_that_it_was_given_for() {
        let mut managed = Managed::default();
        managed.add(1000, 1000);
        managed.advise(1200, 100, CU_MEM_ADVISE_SET_READ_MOSTLY, GPU, 1).unwrap();
        let read_mostly = CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY;
        assert_eq!(int(&managed, read_mostly, 1200, 100), 1);
        assert_eq!(int(&managed, read_mostly, 1250, 10), 1);
        assert_eq!(int(&managed, read_mostly, 1199, 2), 0);
        assert_eq!(int(&managed, read_mostly, 1000, 1000), 0);
        managed.prefetch(1000, 1000, GPU, 1).unwrap();
        let last = CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION;
        assert_eq!(int(&managed, last, 1000, 1000), 0);
        managed.prefetch(1500, 100, location_of(HOST), 1).unwrap();
        assert_eq!(int(&managed, last, 1000, 1000), NOWHERE);
        assert_eq!(int(&managed, last, 1500, 100), HOST);
        assert_eq!(managed.prefetch(1500, 501, GPU, 1), Err(CUDA_ERROR_INVALID_VALUE));
        assert_eq!(managed.prefetch(1500, 10, location_of(3), 1), Err(CUDA_ERROR_INVALID_DEVICE));
        managed.remove(1000, 1000);
        assert!(!managed.holds(1000, 1));
    }

    #[test]
    fn those_who_access_are_listed_and_the_rest_is_nobody() {
        let mut managed = Managed::default();
        managed.add(0x1000, 0x1000);
        let by = CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY;
        for location in [GPU, location_of(HOST), GPU] {
            managed.advise(0x1000, 0x1000, CU_MEM_ADVISE_SET_ACCESSED_BY, location, 1).unwrap();
        }
        let ints = |bytes: Vec<u8>| -> Vec<i32> {
            bytes.chunks(4).map(|raw| i32::from_le_bytes(raw.try_into().unwrap())).collect()
        };
        assert_eq!(ints(managed.attribute(by, 12, 0x1000, 1).unwrap()), [0, HOST, NOWHERE]);
        managed.advise(0x1000, 0x800, CU_MEM_ADVISE_UNSET_ACCESSED_BY, GPU, 1).unwrap();
        assert_eq!(ints(managed.attribute(by, 8, 0x1000, 0x1000).unwrap()), [HOST, NOWHERE]);
        assert!(managed.attribute(by, 6, 0x1000, 1).is_err());
    }
}
