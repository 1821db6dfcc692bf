//! Handles: what a program holds for a context, a module, a stream. A handle names a place in a
//! table of its type and the generation of that place, so a stale or forged one is an error.

use std::sync::{Arc, PoisonError, RwLock};

/// Bits of a handle: type from 40 on, generation from 24 on, place below. The type keeps handles
/// clear of the small numbers that CUDA gives a meaning of their own.
const TYPE_SHIFT: u32 = 40;
const GENERATION_SHIFT: u32 = 24;
const PLACE_MASK: u64 = (1 << GENERATION_SHIFT) - 1;
const GENERATION_MASK: u64 = 0xffff;

struct Places<T> {
    all: Vec<(u64, Option<Arc<T>>)>,
    free: Vec<usize>,
}

/// The live objects of one handle type.
pub struct Registry<T> {
    kind: u64,
    places: RwLock<Places<T>>,
}

impl<T> Registry<T> {
    /// An empty table for handles of the type with that number.
    pub const fn new(kind: u8) -> Self {
        Self { kind: kind as u64, places: RwLock::new(Places { all: Vec::new(), free: Vec::new() }) }
    }

    /// Files an object that is made knowing its handle.
    pub fn insert_with(&self, make: impl FnOnce(u64) -> T) -> (u64, Arc<T>) {
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        let place = places.free.pop().unwrap_or_else(|| {
            places.all.push((0, None));
            places.all.len() - 1
        });
        let (generation, slot) = &mut places.all[place];
        *generation = (*generation + 1) & GENERATION_MASK;
        let handle = self.kind << TYPE_SHIFT | *generation << GENERATION_SHIFT | place as u64;
        let object = Arc::new(make(handle));
        *slot = Some(Arc::clone(&object));
        (handle, object)
    }

    fn find<'p>(&self, places: &'p Places<T>, handle: u64) -> Option<&'p Arc<T>> {
        let place = usize::try_from(handle & PLACE_MASK).ok()?;
        let (generation, object) = places.all.get(place)?;
        let expected = self.kind << TYPE_SHIFT | generation << GENERATION_SHIFT | place as u64;
        object.as_ref().filter(|_| handle == expected)
    }

    /// The object that `handle` names.
    pub fn get(&self, handle: u64) -> Option<Arc<T>> {
        self.with(handle, Arc::clone)
    }

    /// Looks at the object that `handle` names without taking a share in it.
    pub fn with<R>(&self, handle: u64, look: impl FnOnce(&Arc<T>) -> R) -> Option<R> {
        let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
        self.find(&places, handle).map(look)
    }

    /// The handle of an object that `condition` names.
    pub fn find_where(&self, condition: impl Fn(&T) -> bool) -> Option<u64> {
        let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
        let named = |(_, object): &&(u64, Option<Arc<T>>)| object.as_ref().is_some_and(|object| condition(object));
        let (place, (generation, _)) = (0u64..).zip(&places.all).find(|(_, entry)| named(entry))?;
        Some(self.kind << TYPE_SHIFT | generation << GENERATION_SHIFT | place)
    }

    /// How many objects `condition` names.
    pub fn count(&self, condition: impl Fn(&T) -> bool) -> u64 {
        let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
        places.all.iter().filter(|(_, object)| object.as_ref().is_some_and(|object| condition(object))).count() as u64
    }

    /// Ends a handle; the object, or None when there is none.
    pub fn remove(&self, handle: u64) -> Option<Arc<T>> {
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        self.find(&places, handle)?;
        let place = usize::try_from(handle & PLACE_MASK).ok()?;
        places.free.push(place);
        places.all.get_mut(place)?.1.take()
    }

    /// All objects of this moment.
    pub fn all(&self) -> Vec<Arc<T>> {
        let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
        places.all.iter().filter_map(|(_, object)| object.clone()).collect()
    }

    /// Ends every handle whose object `condition` names.
    pub fn remove_where(&self, condition: impl Fn(&T) -> bool) -> Vec<Arc<T>> {
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        let found: Vec<usize> = (0..places.all.len())
            .filter(|&place| places.all[place].1.as_ref().is_some_and(|object| condition(object)))
            .collect();
        let removed = found.iter().filter_map(|&place| places.all[place].1.take()).collect();
        places.free.extend(found);
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_and_forged_handles_name_nothing() {
        let table: Registry<u32> = Registry::new(6);
        let (first, _) = table.insert_with(|_| 1);
        let (second, _) = table.insert_with(|_| 2);
        assert_eq!(table.get(second).as_deref(), Some(&2));
        assert!(table.remove(first).is_some());
        assert!(table.remove(first).is_none() && table.get(first).is_none());
        let (third, _) = table.insert_with(|_| 3);
        assert_eq!(third & PLACE_MASK, first & PLACE_MASK, "the place is used again");
        assert!(table.get(first).is_none());
        for forged in [0, 1, 2, u64::MAX, third ^ 1 << TYPE_SHIFT, third + 7] {
            assert!(forged == second || table.get(forged).is_none());
        }
        assert_eq!((table.count(|n| *n > 0), table.count(|n| *n > 2)), (2, 1));
        assert_eq!(table.remove_where(|n| *n > 2).len(), 1);
        assert!(table.get(third).is_none() && table.get(second).is_some());
    }
}
