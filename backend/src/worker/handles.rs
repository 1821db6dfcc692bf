//! What the guest's ids stand for. Each type has a dense table; an id of
//! another type, an ended one or a forged one is CUDA_ERROR_INVALID_HANDLE.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use paravane_protocol::cuda_types::*;
use paravane_protocol::limits::{HANDLE_GAP_MAX, HANDLES_MAX};

use super::libcuda::Answer;
use super::resources::Resources;

const TYPES: usize = 72;

#[derive(Clone, Copy, Default)]
struct Entry {
    /// The guest's whole id; 0 for none.
    id: u64,
    native: u64,
    /// The context in which it was made, and the module or library it is part
    /// of: with either, it ends. 0 for none.
    context: u64,
    parent: u64,
}

/// The tables of one guest process.
pub(super) struct Handles {
    tables: [RwLock<Vec<Entry>>; TYPES],
    named: Mutex<Named>,
    /// Descriptions of device resources that the guest holds copies of.
    pub(super) resources: Resources,
}

/// Objects that libcuda makes without a call of the guest's that names them
/// (nodes of a captured graph): the worker gives their ids.
#[derive(Default)]
struct Named {
    by_native: HashMap<(u8, u64), u64>,
    /// The highest index in use, by type.
    last: HashMap<u8, u64>,
    /// Ended ids of both types, with the next generation.
    free: HashMap<u8, Vec<u64>>,
    /// Ids that are some other's parent.
    parents: HashSet<u64>,
}

/// With what an object ends.
#[derive(Clone, Copy, Default)]
pub(super) struct Belongs {
    pub(super) context: u64,
    pub(super) parent: u64,
}

fn type_of(id: u64) -> Option<usize> {
    usize::try_from(id >> 40).ok().filter(|number| *number < TYPES)
}

fn index_of(id: u64) -> u32 {
    (id & 0xff_ffff) as u32
}

impl Handles {
    pub(super) fn new() -> Self {
        Self {
            tables: std::array::from_fn(|_| RwLock::new(Vec::new())),
            named: Mutex::new(Named::default()),
            resources: Resources::default(),
        }
    }

    /// What an id of any type stands for.
    #[inline]
    fn find(&self, id: u64) -> Option<u64> {
        self.entry(id).map(|entry| entry.native)
    }

    /// What an id of type `H` stands for. NULL stands for itself where CUDA
    /// gives it a meaning; a kernel may be given for a function.
    #[inline]
    pub(super) fn resolve<H: Handle>(&self, id: H) -> Answer<H> {
        let number = id.number();
        let is_current = number == 0 && [CUcontext::TYPE, CUgreenCtx::TYPE].contains(&H::TYPE);
        if is_current || number <= 2 && H::TYPE == CUstream::TYPE {
            return Ok(id);
        }
        let of_type = type_of(number) == Some(usize::from(H::TYPE));
        let kernel_for_function = H::TYPE == CUfunction::TYPE
            && type_of(number) == Some(usize::from(CUkernel::TYPE));
        let unknown = if H::TYPE == CUgreenCtx::TYPE { CUDA_ERROR_INVALID_CONTEXT } else { CUDA_ERROR_INVALID_HANDLE };
        if !of_type && !kernel_for_function {
            return Err(unknown);
        }
        self.find(number).map(H::from_number).ok_or(unknown)
    }

    /// Whether a new id could be inserted.
    pub(super) fn check_new<H: Handle>(&self, id: H) -> Answer {
        let table = self.tables[usize::from(H::TYPE)].read().unwrap_or_else(PoisonError::into_inner);
        let index = index_of(id.number());
        let known = u32::try_from(table.len()).unwrap_or(u32::MAX);
        let of_type = type_of(id.number()) == Some(usize::from(H::TYPE));
        if of_type && index < HANDLES_MAX && index <= known.saturating_add(HANDLE_GAP_MAX) {
            Ok(())
        } else {
            Err(CUDA_ERROR_INVALID_HANDLE)
        }
    }

    /// Makes an id stand for something; an id that did already stands for the
    /// new from now on.
    pub(super) fn insert<H: Handle>(&self, id: H, native: H, belongs: Belongs) -> Answer {
        self.check_new(id)?;
        let mut table =
            self.tables[usize::from(H::TYPE)].write().unwrap_or_else(PoisonError::into_inner);
        let index = index_of(id.number()) as usize;
        if table.len() <= index {
            table.resize(index + 1, Entry::default());
        }
        let Belongs { context, parent } = belongs;
        if parent != 0 {
            self.named().parents.insert(parent);
        }
        table[index] = Entry { id: id.number(), native: native.number(), context, parent };
        Ok(())
    }

    /// An id stands for nothing any more.
    pub(super) fn remove<H: Handle>(&self, id: H) {
        let mut entries = self.tables[usize::from(H::TYPE)].write().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get_mut(index_of(id.number()) as usize);
        let ended = entry.filter(|entry| entry.id == id.number() && entry.id != 0).map(std::mem::take);
        drop(entries);
        self.free(usize::from(H::TYPE), ended.as_slice());
    }

    /// A context is gone with all that was made in it.
    pub(super) fn forget_context(&self, context: u64) {
        for table in 0..TYPES {
            let ended = self.forget_in(table, |entry| entry.context == context || entry.id == context);
            let mut named = self.named();
            for id in &ended {
                named.parents.remove(id);
            }
        }
    }

    /// A module, a library, a graph or a node with a graph in it is gone with
    /// all its parts.
    pub(super) fn forget_parent(&self, parent: u64) {
        let mut gone = vec![parent];
        while let Some(parent) = gone.pop() {
            self.named().parents.remove(&parent);
            for table in 0..TYPES {
                let ended = self.forget_in(table, |entry| entry.parent == parent);
                let named = self.named();
                gone.extend(ended.into_iter().filter(|id| named.parents.contains(id)));
            }
        }
    }

    /// Forgets entries; returns their ids.
    fn forget_in(&self, table: usize, gone: impl Fn(&Entry) -> bool) -> Vec<u64> {
        let mut entries = self.tables[table].write().unwrap_or_else(PoisonError::into_inner);
        let mut ended = Vec::new();
        for entry in entries.iter_mut().filter(|entry| entry.id != 0 && gone(entry)) {
            ended.push(std::mem::take(entry));
        }
        drop(entries);
        self.free(table, &ended);
        ended.into_iter().map(|entry| entry.id).collect()
    }

    /// Ids that the worker gives can be given again, as the next generation.
    fn free(&self, table: usize, ended: &[Entry]) {
        if ended.is_empty() || !is_named(table) {
            return;
        }
        let mut named = self.named();
        let kind = u8::try_from(table).unwrap_or(0);
        for entry in ended {
            if named.by_native.get(&(kind, entry.native)) == Some(&entry.id) {
                named.by_native.remove(&(kind, entry.native));
            }
            let generation = (entry.id >> 24).wrapping_add(1) & 0xffff;
            let next = (entry.id & !(0xffff << 24)) | generation << 24;
            named.free.entry(kind).or_default().push(next);
        }
    }

    fn named(&self) -> MutexGuard<'_, Named> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id of a native handle, as the guest is told it: known, or given now
    /// where the worker gives ids. NULL is NULL.
    pub(super) fn tell<H: Handle>(&self, native: H, parent: u64) -> Answer<H> {
        let number = native.number();
        if number == 0 {
            return Ok(native);
        }
        if !is_named(usize::from(H::TYPE)) {
            return self.id_of(native).ok_or(CUDA_ERROR_INVALID_HANDLE);
        }
        let id = {
            let mut named = self.named();
            if let Some(id) = named.by_native.get(&(H::TYPE, number)) {
                return Ok(H::from_number(*id));
            }
            let reused = named.free.get_mut(&H::TYPE).and_then(Vec::pop);
            let id = reused.unwrap_or_else(|| {
                let last = named.last.entry(H::TYPE).or_default();
                *last += 1;
                u64::from(H::TYPE) << 40 | *last
            });
            named.by_native.insert((H::TYPE, number), id);
            id
        };
        self.insert(H::from_number(id), native, Belongs { context: 0, parent })?;
        Ok(H::from_number(id))
    }

    /// The id that stands for a native handle.
    pub(super) fn id_of<H: Handle>(&self, native: H) -> Option<H> {
        let table = self.tables[usize::from(H::TYPE)].read().unwrap_or_else(PoisonError::into_inner);
        let found = table.iter().find(|entry| entry.id != 0 && entry.native == native.number());
        found.map(|entry| H::from_number(entry.id))
    }

    /// The library's contexts.
    pub(super) fn contexts(&self) -> Vec<CUcontext> {
        let table = self.tables[usize::from(CUcontext::TYPE)].read().unwrap_or_else(PoisonError::into_inner);
        table.iter().filter(|entry| entry.id != 0).map(|entry| CUcontext(entry.native)).collect()
    }

    /// What an id is a part of, 0 for nothing.
    pub(super) fn parent(&self, id: u64) -> u64 {
        self.entry(id).map_or(0, |entry| entry.parent)
    }

    fn entry(&self, id: u64) -> Option<Entry> {
        let table = self.tables.get(type_of(id)?)?.read().unwrap_or_else(PoisonError::into_inner);
        table.get(index_of(id) as usize).copied().filter(|entry| entry.id == id)
    }

    /// The context in which something was made, the primary one of a green one; 0 for none.
    pub(super) fn context_of<H: Handle>(&self, id: H) -> u64 {
        self.entry(id.number()).map_or(0, |entry| entry.context)
    }

    /// The context whose data another works on: itself, or a green one's primary
    /// context.
    pub(super) fn home(&self, context: u64) -> u64 {
        self.entry(context).map(|entry| entry.context).filter(|home| *home != 0).unwrap_or(context)
    }
}

/// Whether the worker gives the ids of a type.
fn is_named(table: usize) -> bool {
    [CUgraph::TYPE, CUgraphNode::TYPE].map(usize::from).contains(&table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id<H: Handle>(generation: u64, index: u64) -> H {
        H::from_number(u64::from(H::TYPE) << 40 | generation << 24 | index)
    }

    #[test]
    fn only_the_id_that_was_inserted_resolves() {
        let handles = Handles::new();
        let stream: CUstream = id(0, 5);
        handles.insert(stream, CUstream(0xbeef), Belongs::default()).unwrap();
        assert_eq!(handles.resolve(stream), Ok(CUstream(0xbeef)));
        let others = [id::<CUstream>(1, 5), id(0, 6), CUstream(stream.0 | 1 << 63), CUstream(99)];
        for other in others {
            assert_eq!(handles.resolve(other), Err(CUDA_ERROR_INVALID_HANDLE), "{other:?}");
        }
        assert_eq!(handles.resolve(CUevent(stream.0)), Err(CUDA_ERROR_INVALID_HANDLE));
        handles.remove(stream);
        assert_eq!(handles.resolve(stream), Err(CUDA_ERROR_INVALID_HANDLE));
    }

    #[test]
    fn null_means_something_only_for_streams_and_contexts() {
        let handles = Handles::new();
        assert_eq!(handles.resolve(CU_STREAM_PER_THREAD), Ok(CU_STREAM_PER_THREAD));
        assert_eq!(handles.resolve(CUcontext(0)), Ok(CUcontext(0)));
        assert_eq!(handles.resolve(CUevent(0)), Err(CUDA_ERROR_INVALID_HANDLE));
        assert_eq!(handles.resolve(CUcontext(1)), Err(CUDA_ERROR_INVALID_HANDLE));
    }

    #[test]
    fn a_kernel_may_stand_for_a_function_and_nothing_else() {
        let handles = Handles::new();
        let kernel: CUkernel = id(0, 1);
        handles.insert(kernel, CUkernel(0xf00), Belongs::default()).unwrap();
        assert_eq!(handles.resolve(CUfunction(kernel.0)), Ok(CUfunction(0xf00)));
        assert_eq!(handles.resolve(CUmodule(kernel.0)), Err(CUDA_ERROR_INVALID_HANDLE));
    }

    #[test]
    fn what_belongs_to_a_context_ends_with_it() {
        let handles = Handles::new();
        let belongs = Belongs { context: 7, parent: 0 };
        let (mine, other): (CUevent, CUevent) = (id(0, 1), id(0, 2));
        handles.insert(mine, CUevent(1), belongs).unwrap();
        handles.insert(other, CUevent(2), Belongs::default()).unwrap();
        handles.forget_context(7);
        assert_eq!(handles.resolve(mine), Err(CUDA_ERROR_INVALID_HANDLE));
        assert_eq!(handles.resolve(other), Ok(CUevent(2)));
    }

    #[test]
    fn a_green_context_works_on_its_primary_ones_data() {
        let handles = Handles::new();
        let (green, context, primary): (CUgreenCtx, CUcontext, CUcontext) = (id(0, 1), id(0, 2), id(0, 3));
        handles.insert(green, CUgreenCtx(1), Belongs::default()).unwrap();
        handles.insert(primary, CUcontext(2), Belongs::default()).unwrap();
        handles.insert(context, CUcontext(3), Belongs { context: primary.0, parent: green.0 }).unwrap();
        assert_eq!((handles.home(context.0), handles.home(primary.0), handles.home(0)), (primary.0, primary.0, 0));
        handles.remove(green);
        handles.forget_parent(green.0);
        assert_eq!(handles.resolve(context), Err(CUDA_ERROR_INVALID_HANDLE));
        assert_eq!(handles.resolve(green), Err(CUDA_ERROR_INVALID_CONTEXT));
        assert!(handles.resolve(primary).is_ok());
    }

    #[test]
    fn parts_of_parts_end_with_the_whole() {
        let handles = Handles::new();
        let (library, kernel, function): (CUlibrary, CUkernel, CUfunction) = (id(0, 1), id(0, 2), id(0, 3));
        let of = |parent| Belongs { context: 0, parent };
        handles.insert(library, CUlibrary(1), Belongs::default()).unwrap();
        handles.insert(kernel, CUkernel(2), of(library.0)).unwrap();
        handles.insert(function, CUfunction(3), of(kernel.0)).unwrap();
        handles.remove(library);
        handles.forget_parent(library.0);
        assert_eq!(handles.resolve(kernel), Err(CUDA_ERROR_INVALID_HANDLE));
        assert_eq!(handles.resolve(function), Err(CUDA_ERROR_INVALID_HANDLE));
    }

    #[test]
    fn an_index_far_ahead_is_refused_before_memory_is_taken() {
        let handles = Handles::new();
        let far: CUevent = id(0, u64::from(HANDLE_GAP_MAX) + 1);
        assert!(handles.check_new(far).is_err());
        assert!(handles.insert(far, CUevent(1), Belongs::default()).is_err());
    }
}
