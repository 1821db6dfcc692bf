//! virtio-gpu's structures and numbers, as section 5.7 of the virtio 1.3
//! specification gives them. The backend parses them (`command.rs`), the shim's
//! own virtio driver and the tests' front end write them.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The virtio device type of a GPU.
pub const DEVICE_ID: u32 = 16;
/// Index of the queue for commands.
pub const CONTROL_QUEUE: usize = 0;
/// Index of the queue for cursor commands.
pub const CURSOR_QUEUE: usize = 1;

/// Feature bit numbers (5.7.3).
pub mod feature {
    /// 3D: contexts, RESOURCE_CREATE_3D, SUBMIT_3D.
    pub const VIRGL: u32 = 0;
    /// GET_EDID.
    pub const EDID: u32 = 1;
    /// RESOURCE_ASSIGN_UUID.
    pub const RESOURCE_UUID: u32 = 2;
    /// RESOURCE_CREATE_BLOB and what goes with it.
    pub const RESOURCE_BLOB: u32 = 3;
    /// A context's capset, and fence timelines per context.
    pub const CONTEXT_INIT: u32 = 4;
}

/// Command and response numbers (5.7.6.7).
#[allow(missing_docs, reason = "the specification's names")]
pub mod ctrl {
    pub const GET_DISPLAY_INFO: u32 = 0x0100;
    pub const RESOURCE_CREATE_2D: u32 = 0x0101;
    pub const RESOURCE_UNREF: u32 = 0x0102;
    pub const SET_SCANOUT: u32 = 0x0103;
    pub const RESOURCE_FLUSH: u32 = 0x0104;
    pub const TRANSFER_TO_HOST_2D: u32 = 0x0105;
    pub const RESOURCE_ATTACH_BACKING: u32 = 0x0106;
    pub const RESOURCE_DETACH_BACKING: u32 = 0x0107;
    pub const GET_CAPSET_INFO: u32 = 0x0108;
    pub const GET_CAPSET: u32 = 0x0109;
    pub const GET_EDID: u32 = 0x010a;
    pub const RESOURCE_ASSIGN_UUID: u32 = 0x010b;
    pub const RESOURCE_CREATE_BLOB: u32 = 0x010c;
    pub const SET_SCANOUT_BLOB: u32 = 0x010d;

    pub const CTX_CREATE: u32 = 0x0200;
    pub const CTX_DESTROY: u32 = 0x0201;
    pub const CTX_ATTACH_RESOURCE: u32 = 0x0202;
    pub const CTX_DETACH_RESOURCE: u32 = 0x0203;
    pub const RESOURCE_CREATE_3D: u32 = 0x0204;
    pub const TRANSFER_TO_HOST_3D: u32 = 0x0205;
    pub const TRANSFER_FROM_HOST_3D: u32 = 0x0206;
    pub const SUBMIT_3D: u32 = 0x0207;
    pub const RESOURCE_MAP_BLOB: u32 = 0x0208;
    pub const RESOURCE_UNMAP_BLOB: u32 = 0x0209;

    pub const UPDATE_CURSOR: u32 = 0x0300;
    pub const MOVE_CURSOR: u32 = 0x0301;

    pub const OK_NODATA: u32 = 0x1100;
    pub const OK_DISPLAY_INFO: u32 = 0x1101;
    pub const OK_CAPSET_INFO: u32 = 0x1102;
    pub const OK_CAPSET: u32 = 0x1103;
    pub const OK_EDID: u32 = 0x1104;
    pub const OK_RESOURCE_UUID: u32 = 0x1105;
    pub const OK_MAP_INFO: u32 = 0x1106;

    pub const ERR_UNSPEC: u32 = 0x1200;
    pub const ERR_OUT_OF_MEMORY: u32 = 0x1201;
    pub const ERR_INVALID_SCANOUT_ID: u32 = 0x1202;
    pub const ERR_INVALID_RESOURCE_ID: u32 = 0x1203;
    pub const ERR_INVALID_CONTEXT_ID: u32 = 0x1204;
    pub const ERR_INVALID_PARAMETER: u32 = 0x1205;
}

/// [`CtrlHdr::flags`]: answer when the command is done.
pub const FLAG_FENCE: u32 = 1;
/// [`CtrlHdr::flags`]: the fence is on the timeline [`CtrlHdr::ring_idx`] of the context.
pub const FLAG_INFO_RING_IDX: u32 = 2;

/// Formats of 2D resources (5.7.6.8): four bytes a pixel, all of them.
pub const FORMATS_2D: [u32; 8] = [1, 2, 3, 4, 67, 68, 121, 134];

/// [`ResourceCreateBlob::blob_mem`]: the blob is the guest's own pages.
pub const BLOB_MEM_GUEST: u32 = 1;
/// [`ResourceCreateBlob::blob_mem`]: the blob is the host's memory.
pub const BLOB_MEM_HOST3D: u32 = 2;

/// The capset of Vulkan: virglrenderer's venus.
pub const CAPSET_VENUS: u32 = 4;

/// The number of the shared memory region in which a guest sees blobs of the
/// host's memory (5.7.7).
pub const SHM_HOST_VISIBLE: u8 = 1;

/// Scanouts that the specification allows, and so the entries of a display info.
pub const SCANOUTS_MAX: usize = 16;

/// Bytes of EDID data in a response.
pub const EDID_BYTES: usize = 1024;

macro_rules! wire {
    ($($(#[doc = $doc:literal])+ $name:ident = $bytes:literal {
        $($(#[doc = $field_doc:literal])+ $field:ident: $type:ty,)*
    })*) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[derive(FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
        #[repr(C)]
        pub struct $name { $($(#[doc = $field_doc])+ pub $field: $type,)* }
        const _: () = assert!(size_of::<$name>() == $bytes);

        impl Default for $name {
            fn default() -> Self {
                FromZeros::new_zeroed()
            }
        }
    )*};
}

wire! {
    /// The device's configuration space (5.7.4).
    Config = 16 {
        /// Events that the driver has to look at.
        events_read: U32,
        /// Written by the driver: events that it has seen.
        events_clear: U32,
        /// Scanouts, 1 to 16.
        num_scanouts: U32,
        /// Capsets.
        num_capsets: U32,
    }
    /// Starts every command and every response.
    CtrlHdr = 24 {
        /// A number from [`ctrl`].
        kind: U32,
        /// [`FLAG_FENCE`], [`FLAG_INFO_RING_IDX`].
        flags: U32,
        /// The driver's number of the fence.
        fence_id: U64,
        /// Context, where there is one.
        ctx_id: U32,
        /// Timeline in the context, with [`FLAG_INFO_RING_IDX`].
        ring_idx: u8,
        /// Zero.
        padding: [u8; 3],
    }
    /// A rectangle in pixels.
    Rect = 16 {
        /// Left edge.
        x: U32,
        /// Upper edge.
        y: U32,
        /// Width.
        width: U32,
        /// Height.
        height: U32,
    }
    /// One scanout in a display info.
    DisplayOne = 24 {
        /// Preferred position and size.
        r: Rect,
        /// 1 when a display is connected.
        enabled: U32,
        /// Zero.
        flags: U32,
    }
    /// Body of OK_DISPLAY_INFO.
    DisplayInfo = 384 {
        /// All scanouts.
        pmodes: [DisplayOne; 16],
    }
    /// Body of GET_EDID.
    GetEdid = 8 {
        /// Which scanout.
        scanout: U32,
        /// Zero.
        padding: U32,
    }
    /// Body of OK_EDID.
    Edid = 1032 {
        /// Bytes that are meant.
        size: U32,
        /// Zero.
        padding: U32,
        /// The blocks.
        edid: [u8; 1024],
    }
    /// Body of GET_CAPSET_INFO.
    GetCapsetInfo = 8 {
        /// From 0 to num_capsets - 1.
        capset_index: U32,
        /// Zero.
        padding: U32,
    }
    /// Body of OK_CAPSET_INFO.
    CapsetInfo = 16 {
        /// The capset's id.
        capset_id: U32,
        /// Highest version.
        capset_max_version: U32,
        /// Bytes of the capset.
        capset_max_size: U32,
        /// Zero.
        padding: U32,
    }
    /// Body of GET_CAPSET; OK_CAPSET is the capset's bytes.
    GetCapset = 8 {
        /// The capset's id.
        capset_id: U32,
        /// Its version.
        capset_version: U32,
    }
    /// Body of RESOURCE_CREATE_2D.
    ResourceCreate2d = 16 {
        /// Not 0, not in use.
        resource_id: U32,
        /// One of [`FORMATS_2D`], or Paravane's mark.
        format: U32,
        /// Pixels.
        width: U32,
        /// Pixels.
        height: U32,
    }
    /// Body of RESOURCE_CREATE_3D.
    ResourceCreate3d = 48 {
        /// Not 0, not in use.
        resource_id: U32,
        /// Gallium's target.
        target: U32,
        /// Gallium's format, or Paravane's mark.
        format: U32,
        /// Gallium's bind flags.
        bind: U32,
        /// Pixels.
        width: U32,
        /// Pixels.
        height: U32,
        /// Pixels.
        depth: U32,
        /// Layers.
        array_size: U32,
        /// Mipmap levels but one.
        last_level: U32,
        /// Samples.
        nr_samples: U32,
        /// Bit 0: the origin is at the top.
        flags: U32,
        /// Zero.
        padding: U32,
    }
    /// Body of RESOURCE_CREATE_BLOB; `nr_entries` of [`MemEntry`] follow.
    ResourceCreateBlob = 32 {
        /// Not 0, not in use.
        resource_id: U32,
        /// [`BLOB_MEM_GUEST`] and others.
        blob_mem: U32,
        /// How it will be used.
        blob_flags: U32,
        /// Entries that follow.
        nr_entries: U32,
        /// The context's name for a host blob.
        blob_id: U64,
        /// Bytes.
        size: U64,
    }
    /// Body of RESOURCE_UNREF, RESOURCE_DETACH_BACKING, CTX_ATTACH_RESOURCE,
    /// CTX_DETACH_RESOURCE, RESOURCE_ASSIGN_UUID and RESOURCE_UNMAP_BLOB.
    ResourceRef = 8 {
        /// The resource.
        resource_id: U32,
        /// Zero.
        padding: U32,
    }
    /// Body of RESOURCE_ATTACH_BACKING; `nr_entries` of [`MemEntry`] follow.
    ResourceAttachBacking = 8 {
        /// The resource.
        resource_id: U32,
        /// Entries that follow.
        nr_entries: U32,
    }
    /// A run of guest pages.
    MemEntry = 16 {
        /// Guest physical address.
        addr: U64,
        /// Bytes.
        length: U32,
        /// Zero.
        padding: U32,
    }
    /// Body of SET_SCANOUT.
    SetScanout = 24 {
        /// What to show of the resource.
        r: Rect,
        /// Which scanout.
        scanout_id: U32,
        /// The resource; 0 switches the scanout off.
        resource_id: U32,
    }
    /// Body of SET_SCANOUT_BLOB.
    SetScanoutBlob = 72 {
        /// What to show of the picture.
        r: Rect,
        /// Which scanout.
        scanout_id: U32,
        /// The resource; 0 switches the scanout off.
        resource_id: U32,
        /// Pixels.
        width: U32,
        /// Pixels.
        height: U32,
        /// One of [`FORMATS_2D`].
        format: U32,
        /// Zero.
        padding: U32,
        /// Bytes from row to row, per plane.
        strides: [U32; 4],
        /// First byte, per plane.
        offsets: [U32; 4],
    }
    /// Body of RESOURCE_FLUSH.
    ResourceFlush = 24 {
        /// What has changed.
        r: Rect,
        /// The resource.
        resource_id: U32,
        /// Zero.
        padding: U32,
    }
    /// Body of TRANSFER_TO_HOST_2D.
    TransferToHost2d = 32 {
        /// Where it goes.
        r: Rect,
        /// Where it comes from in the backing; a doorbell on a channel.
        offset: U64,
        /// The resource.
        resource_id: U32,
        /// Zero.
        padding: U32,
    }
    /// Body of TRANSFER_TO_HOST_3D and TRANSFER_FROM_HOST_3D.
    TransferHost3d = 48 {
        /// Left edge.
        x: U32,
        /// Upper edge.
        y: U32,
        /// First layer.
        z: U32,
        /// Width.
        w: U32,
        /// Height.
        h: U32,
        /// Depth.
        d: U32,
        /// Where it lies in the backing; a doorbell on a channel.
        offset: U64,
        /// The resource.
        resource_id: U32,
        /// Mipmap level.
        level: U32,
        /// Bytes from row to row.
        stride: U32,
        /// Bytes from layer to layer.
        layer_stride: U32,
    }
    /// Body of CTX_CREATE.
    CtxCreate = 72 {
        /// Bytes of the name.
        nlen: U32,
        /// Bits 0 to 7: the capset, with CONTEXT_INIT.
        context_init: U32,
        /// For logs.
        debug_name: [u8; 64],
    }
    /// Body of SUBMIT_3D; `size` bytes follow.
    Submit3d = 8 {
        /// Bytes that follow.
        size: U32,
        /// Zero, or a count of fences.
        padding: U32,
    }
    /// Body of RESOURCE_MAP_BLOB.
    ResourceMapBlob = 16 {
        /// The resource.
        resource_id: U32,
        /// Zero.
        padding: U32,
        /// Where in the host-visible region.
        offset: U64,
    }
    /// Answer to RESOURCE_MAP_BLOB.
    MapInfo = 8 {
        /// How the guest is to cache the pages: 1 cached, 2 uncached, 3 write-combined.
        map_info: U32,
        /// Zero.
        padding: U32,
    }
    /// Body of UPDATE_CURSOR and MOVE_CURSOR.
    UpdateCursor = 32 {
        /// Which scanout.
        scanout_id: U32,
        /// Position.
        x: U32,
        /// Position.
        y: U32,
        /// Zero.
        padding: U32,
        /// The picture, 64 by 64; 0 hides the cursor.
        resource_id: U32,
        /// Hot spot.
        hot_x: U32,
        /// Hot spot.
        hot_y: U32,
        /// Zero.
        padding2: U32,
    }
}
