//! Every bound that crosses the boundary, each with its reason. Both sides
//! compile against this file, so a bound cannot differ between them; the
//! protocol hash covers it.

/// Bytes of commands that one ring holds. Room for about 500 launches of a
/// usual size (128 bytes), which keeps a host thread fed while the guest's is
/// descheduled for one scheduler tick, and small enough that eight rings cost
/// half a megabyte of pinned guest memory.
pub const RING_BYTES: u32 = 64 * 1024;

/// Longest frame, header included. A quarter of the ring, so that a frame
/// always fits after at most one padding frame. Longer data goes through
/// staging.
pub const FRAME_BYTES_MAX: u32 = 16 * 1024;

/// Longest inline reply: one page. Longer results go through staging.
pub const REPLY_BYTES_MAX: u32 = 4096;

/// Rings in the resource that opens a channel. Eight threads need nothing
/// more; further rings come in further areas of the same form.
pub const RINGS_PER_AREA: u32 = 8;

/// Areas (ring areas, staging and host memory) that one channel can hold at a
/// time: the index travels in 16 bits of a resource's format field, and 0 is
/// the channel itself.
pub const AREAS_MAX: u32 = 65_535;

/// Ring areas that one channel can hold: 4,096 guest threads in one process,
/// each of which is a host thread.
pub const RING_AREAS_MAX: u32 = 512;

/// Bytes of one staging slot: large enough that its hand-over (under 1 us)
/// vanishes beside the copy (25 us at 10 GB/s), small enough to stay in L2.
pub const STAGING_SLOT_BYTES: u32 = 256 * 1024;

/// Slots in a staging area: the guest fills one while the host drains others.
pub const STAGING_SLOTS: u32 = 8;

/// Live handles of one type in one guest process. A PyTorch training job uses
/// some thousands; a million of them costs the worker 24 MB.
pub const HANDLES_MAX: u32 = 1 << 20;

/// How far past the highest handle seen a new one may lie. Creation by
/// several threads may arrive out of order by as many threads as there are.
pub const HANDLE_GAP_MAX: u32 = 4096;

/// Blobs of the host's memory that one VM's Vulkan programs have for their command
/// rings and replies, which are in no budget of the GPU's memory: Mesa's driver
/// takes 10 to 30 MiB a program.
pub const RING_BLOBS_BYTES_MAX: u64 = 1 << 30;

/// Places in the window that one VM's blobs have. QEMU counts each as a region of
/// guest memory, of which it has room for 512 and ends where there are more
/// (hw/virtio/vhost-user.c, `VHOST_USER_MAX_RAM_SLOTS`), so some are left for the
/// guest's own memory.
pub const WINDOW_PLACES_MAX: usize = 448;

/// Longest name of a kernel, global or file in a call. C++ mangled kernel
/// names of 4 KiB occur in CUTLASS; the frame bound leaves room for three.
pub const NAME_BYTES_MAX: usize = 12 * 1024;

/// Names of one module's functions together, each with its NUL.
pub const NAMES_BYTES_MAX: u64 = 16 << 20;

/// Largest module image: the largest image that torch 2.8 loads is 60 MB.
pub const IMAGE_BYTES_MAX: u64 = 1 << 30;

/// Where each of several fat binaries in one image begins: nvcc aligns them so.
pub const FATBIN_ALIGN: usize = 8;

/// What kernels may print between two calls that wait for them: as much as
/// CUDA keeps unless told otherwise. More is lost, there as here.
pub const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// Bytes of kernel parameters: CUDA's own bound since 12.1 for sm_70 and up.
pub const KERNEL_PARAM_BYTES_MAX: usize = 32_764;

/// Parameters of one kernel: their layout travels in one reply of 16 bytes
/// each. Nothing real has more than some hundred.
pub const KERNEL_PARAMS_MAX: u32 = 250;

/// Highest device attribute number that is fetched at start-up; CUDA 13.5
/// defines fewer than 160.
pub const DEVICE_ATTRIBUTE_MAX: u32 = 192;

/// Devices that one VM can see: NVML and CUDA know boards of up to 16, and
/// start-up fetches each one's attributes.
pub const DEVICES_MAX: u32 = 32;

/// Longest time that a fenced wait holds its fence, in microseconds. On a
/// front end without context_init all fences share one timeline, so a CUDA
/// wait must not hold up GL's fences longer than a fraction of a frame.
pub const FENCED_WAIT_US_MAX: u64 = 2_000;

/// Regions of guest memory: what one vhost-user message can carry descriptors
/// for. QEMU has one region per NUMA node and one per hot-plugged DIMM.
pub const REGIONS_MAX: usize = 32;

/// Contiguous runs of pages in one area: 1 GiB in the worst case, every page
/// apart. 24 bytes each, so 6 MiB while an area is added.
pub const PIECES_MAX: u32 = 262_144;

/// Bytes of one virtio-gpu command: an area's backing with [`PIECES_MAX`]
/// entries of 16 bytes, and its head.
pub const COMMAND_BYTES_MAX: usize = PIECES_MAX as usize * 16 + 4096;

/// Resources of one connection. A desktop keeps some thousands; every one is a
/// small record here.
pub const RESOURCES_MAX: usize = 65_536;

/// Textures of one connection that other devices may have. Each holds a descriptor.
pub const SHARED_OBJECTS_MAX: usize = 1024;

/// Backing entries that one connection holds in all its resources: 16 of the
/// largest areas at their worst, 64 MiB of records here.
pub const ENTRIES_MAX: usize = 16 * PIECES_MAX as usize;

/// Bytes of 2D pictures of one connection: four of 8K. The host will hold a
/// copy of each.
pub const PICTURE_BYTES_MAX: u64 = 512 << 20;

/// Longest side of a 2D picture, as GPUs have it.
pub const PICTURE_SIDE_MAX: u32 = 16_384;

/// Contexts of one connection: one per process that has opened the node.
pub const CONTEXTS_MAX: usize = 4096;

/// Front ends that one back end serves at a time. A VM is one; on a host every
/// process is one, and each costs two threads and about 20 descriptors.
pub const CONNECTIONS_MAX: usize = 256;

/// Workers of one back end: guest processes that use CUDA at a time. Each is a
/// process with a driver context, of which a GPU holds some dozens.
pub const WORKERS_MAX: usize = 512;

/// Entries of a virtqueue. Linux keeps one entry per command in flight where
/// descriptors are indirect; QEMU's own device has 256 too.
pub const QUEUE_SIZE_MAX: usize = 1024;

/// Pieces of memory that the processes of one VM share with each other at a
/// time. A data loader shares some hundred; each costs the backend a descriptor.
pub const SHARES_MAX: usize = 2048;

/// Bytes of one text that NVML tells: its longest buffer is 96.
pub const NVML_TEXT_MAX: u32 = 1024;

/// Bytes of a versioned struct or an array that goes to the host's NVML and
/// back: half a reply. Room for 50 field values; more are asked for in turns.
pub const NVML_STRUCT_MAX: u32 = 2048;

/// Descriptions of a device's resources that one guest process was told of. Equal
/// ones are kept once; each is 144 bytes, so 9 MiB at the most.
pub const RESOURCES_KEPT_MAX: usize = 65_536;

/// Parts of one split of a device's multiprocessors: their descriptions fit one
/// reply. The largest GPUs have 160 multiprocessors, in pairs.
pub const SM_GROUPS_MAX: u32 = 80;

/// Faults of guests that go to the log at once; later ones at one per second.
pub const FAULT_LOGS_MAX: u32 = 32;

/// Bytes of a program's CUDA_VISIBLE_DEVICES: 64 UUIDs have 41 each with a comma.
pub const VISIBLE_BYTES_MAX: usize = 4096;

/// Finished processes that the usage report names; older ones stay in its
/// totals.
pub const PROCESSES_KEPT_MAX: usize = 1024;
