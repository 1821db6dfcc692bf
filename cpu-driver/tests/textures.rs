//! Texture fetches and surface accesses through the C interface, compared with the formulas of the
//! CUDA programming guide written out here.
#![allow(clippy::undocumented_unsafe_blocks, reason = "every call follows CUDA's contract with memory that the test owns")]
#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "sides are few")]
#![allow(clippy::unwrap_used, reason = "a failed call is a failed test")]

mod program;

use paravane_cpu::api::*;
use paravane_protocol::cuda_types::*;
use program::*;
use zerocopy::FromZeros;

/// Thread t runs `body` with four floats in %f0 to %f3 and the object in %rd9, and stores %r0 to %r3.
fn fetch_all(gpu: &Gpu, object: u64, body: &str, coordinates: &[[f32; 4]]) -> Vec<[u32; 4]> {
    let ptx = format!(
        ".visible .entry k(.param .u64 in, .param .u64 out, .param .u64 object)\n{{\n.reg .b32 %r<20>;\n\
         .reg .f32 %f<20>;\n.reg .b64 %rd<10>;\nmov.u32 %r9, %tid.x;\nld.param.u64 %rd1, [in];\n\
         ld.param.u64 %rd2, [out];\nld.param.u64 %rd9, [object];\nmad.wide.u32 %rd1, %r9, 16, %rd1;\n\
         mad.wide.u32 %rd2, %r9, 16, %rd2;\nld.global.v4.f32 {{%f0, %f1, %f2, %f3}}, [%rd1];\n{body}\n\
         st.global.v4.u32 [%rd2], {{%r0, %r1, %r2, %r3}};\nret;\n}}"
    );
    let function = gpu.function(&ptx, "k");
    let (from, to) = (upload(coordinates), upload(&vec![[0u32; 4]; coordinates.len()]));
    launch(function, 1, u32::try_from(coordinates.len()).unwrap(), &[from.0, to.0, object]);
    download(to, coordinates.len())
}

fn array(descriptor: CUDA_ARRAY3D_DESCRIPTOR, bytes: &[u8]) -> CUarray {
    let mut array = CUarray(0);
    unsafe { cuArray3DCreate_v2(&raw mut array, &raw const descriptor) }.unwrap();
    fill(array, &descriptor, bytes);
    array
}

fn fill(array: CUarray, descriptor: &CUDA_ARRAY3D_DESCRIPTOR, bytes: &[u8]) {
    let width = descriptor.Width * descriptor.Format.element_bytes(descriptor.NumChannels).unwrap() as u64;
    let copy = CUDA_MEMCPY3D {
        srcMemoryType: CU_MEMORYTYPE_HOST,
        srcHost: bytes.as_ptr() as u64,
        dstMemoryType: CU_MEMORYTYPE_ARRAY,
        dstArray: array,
        WidthInBytes: width,
        Height: descriptor.Height.max(1),
        Depth: descriptor.Depth.max(1),
        ..CUDA_MEMCPY3D::new_zeroed()
    };
    assert_eq!(bytes.len() as u64, copy.WidthInBytes * copy.Height * copy.Depth);
    unsafe { cuMemcpy3D_v2(&raw const copy) }.unwrap();
}

fn shape(sides: [u64; 3], format: CUarray_format, channels: u32, flags: u32) -> CUDA_ARRAY3D_DESCRIPTOR {
    let [width, height, depth] = sides;
    CUDA_ARRAY3D_DESCRIPTOR {
        Width: width,
        Height: height,
        Depth: depth,
        Format: format,
        NumChannels: channels,
        Flags: flags,
        pad: 0,
    }
}

fn of_array(array: CUarray) -> CUDA_RESOURCE_DESC {
    let mut resource = CUDA_RESOURCE_DESC { resType: CU_RESOURCE_TYPE_ARRAY, ..CUDA_RESOURCE_DESC::new_zeroed() };
    resource.words[0] = array.0;
    resource
}

fn how(mode: CUaddress_mode, filter: CUfilter_mode, flags: u32) -> CUDA_TEXTURE_DESC {
    CUDA_TEXTURE_DESC { addressMode: [mode; 3], filterMode: filter, flags, ..CUDA_TEXTURE_DESC::new_zeroed() }
}

fn texture(resource: &CUDA_RESOURCE_DESC, how: &CUDA_TEXTURE_DESC) -> u64 {
    let mut texture = CUtexObject(0);
    unsafe { cuTexObjectCreate(&raw mut texture, resource, how, std::ptr::null()) }.unwrap();
    texture.0
}

fn bytes_of<T: zerocopy::IntoBytes + zerocopy::Immutable>(values: &[T]) -> &[u8] {
    zerocopy::IntoBytes::as_bytes(values)
}

const POINT: CUfilter_mode = CU_TR_FILTER_MODE_POINT;
const LINEAR: CUfilter_mode = CU_TR_FILTER_MODE_LINEAR;
const FROM_FLOATS: &str = "mov.b32 %r0, %f4; mov.b32 %r1, %f5; mov.b32 %r2, %f6; mov.b32 %r3, %f7;";

/// The first channel of what a fetch with float results gives.
fn reds(gpu: &Gpu, object: u64, fetch: &str, coordinates: &[[f32; 4]]) -> Vec<f32> {
    let all = fetch_all(gpu, object, &format!("{fetch}\n{FROM_FLOATS}"), coordinates);
    all.iter().map(|[red, ..]| f32::from_bits(*red)).collect()
}

#[test]
fn two_dimensions_are_filtered_by_the_guides_formula() {
    let gpu = Gpu::new();
    let texel = |x: i64, y: i64| {
        let (x, y) = (x.clamp(0, 6), y.clamp(0, 4));
        ((x * 37 + y * 101) % 64) as f32
    };
    let values: Vec<f32> = (0..5).flat_map(|y| (0..7).map(move |x| texel(x, y))).collect();
    let array = array(shape([7, 5, 0], CU_AD_FORMAT_FLOAT, 1, 0), bytes_of(&values));
    let object = texture(&of_array(array), &how(CU_TR_ADDRESS_MODE_CLAMP, LINEAR, 0));
    let coordinates: Vec<[f32; 4]> =
        (0..64).map(|t| [t as f32 * 0.171_875 - 1.5, t as f32 * -0.109_375 + 6.0, 0.0, 0.0]).collect();
    let fetched = reds(&gpu, object, "tex.2d.v4.f32.f32 {%f4, %f5, %f6, %f7}, [%rd9, {%f0, %f1}];", &coordinates);
    for (at, fetched) in coordinates.iter().zip(fetched) {
        let (x, y) = (at[0] - 0.5, at[1] - 0.5);
        let (i, j) = (x.floor() as i64, y.floor() as i64);
        let eighth_bits = |f: f32| (f * 256.0).round() / 256.0;
        let (a, b) = (eighth_bits(x - x.floor()), eighth_bits(y - y.floor()));
        let expected = (1.0 - a) * (1.0 - b) * texel(i, j)
            + a * (1.0 - b) * texel(i + 1, j)
            + (1.0 - a) * b * texel(i, j + 1)
            + a * b * texel(i + 1, j + 1);
        assert!((fetched - expected).abs() < 1e-3, "at {at:?}: {fetched}, not {expected}");
    }
    // The nearest element where no filter is asked for, and four at once.
    let nearest = texture(&of_array(array), &how(CU_TR_ADDRESS_MODE_CLAMP, POINT, 0));
    let fetched = reds(&gpu, nearest, "tex.2d.v4.f32.f32 {%f4, %f5, %f6, %f7}, [%rd9, {%f0, %f1}];", &coordinates);
    for (at, fetched) in coordinates.iter().zip(fetched) {
        assert_eq!(fetched.to_bits(), texel(at[0].floor() as i64, at[1].floor() as i64).to_bits(), "at {at:?}");
    }
    let four = "tld4.r.2d.v4.f32.f32 {%f4, %f5, %f6, %f7}, [%rd9, {%f0, %f1}];";
    let gathered = fetch_all(&gpu, nearest, &format!("{four}\n{FROM_FLOATS}"), &[[3.0, 2.0, 0.0, 0.0]]);
    let expected = [texel(2, 2), texel(3, 2), texel(3, 1), texel(2, 1)];
    assert_eq!(gathered[0].map(f32::from_bits), expected);
}

#[test]
fn coordinates_outside_mean_what_the_address_mode_says() {
    let gpu = Gpu::new();
    let values: Vec<u8> = (0..8).map(|x| x * 20).collect();
    let array = array(shape([8, 0, 0], CU_AD_FORMAT_UNSIGNED_INT8, 1, 0), &values);
    let coordinates: Vec<[f32; 4]> = (-16..32).map(|t| [t as f32 / 8.0 + 1.0 / 16.0, 0.0, 0.0, 0.0]).collect();
    let modes = [CU_TR_ADDRESS_MODE_WRAP, CU_TR_ADDRESS_MODE_CLAMP, CU_TR_ADDRESS_MODE_MIRROR, CU_TR_ADDRESS_MODE_BORDER];
    for mode in modes {
        let mut how = how(mode, POINT, CU_TRSF_NORMALIZED_COORDINATES);
        how.borderColor = [0.75; 4];
        let object = texture(&of_array(array), &how);
        let fetched = reds(&gpu, object, "tex.1d.v4.f32.f32 {%f4, %f5, %f6, %f7}, [%rd9, {%f0}];", &coordinates);
        for (t, fetched) in (-16_i64..32).zip(fetched) {
            let inside = match mode {
                CU_TR_ADDRESS_MODE_WRAP => Some(t.rem_euclid(8)),
                CU_TR_ADDRESS_MODE_CLAMP => Some(t.clamp(0, 7)),
                CU_TR_ADDRESS_MODE_MIRROR if t.div_euclid(8) % 2 == 0 => Some(t.rem_euclid(8)),
                CU_TR_ADDRESS_MODE_MIRROR => Some(7 - t.rem_euclid(8)),
                _ => (0..8).contains(&t).then_some(t),
            };
            // Eight bits are read as 0 to 1.
            let expected = inside.map_or(0.75, |x| x as f32 * 20.0 / 255.0);
            assert!((fetched - expected).abs() < 1e-6, "{mode:?} at {t}: {fetched}, not {expected}");
        }
    }
}

#[test]
fn integers_are_read_as_they_are_and_missing_channels_are_filled() {
    let gpu = Gpu::new();
    let values: Vec<i16> = vec![-5, 6, -7, 8, -32_768, 32_767];
    let array = array(shape([3, 0, 0], CU_AD_FORMAT_SIGNED_INT16, 2, 0), bytes_of(&values));
    let object = texture(&of_array(array), &how(CU_TR_ADDRESS_MODE_CLAMP, POINT, CU_TRSF_READ_AS_INTEGER));
    let body = "tex.1d.v4.s32.f32 {%r0, %r1, %r2, %r3}, [%rd9, {%f0}];";
    let fetched = fetch_all(&gpu, object, body, &[[0.5; 4], [1.5; 4], [2.5; 4]]);
    let expected = [[-5, 6, 0, 1], [-7, 8, 0, 1], [-32_768, 32_767, 0, 1]].map(|all: [i32; 4]| all.map(i32::cast_unsigned));
    assert_eq!(fetched, expected);
    let object = texture(&of_array(array), &how(CU_TR_ADDRESS_MODE_CLAMP, POINT, 0));
    let body = "tex.1d.v4.f32.f32 {%f4, %f5, %f6, %f7}, [%rd9, {%f0}];";
    let fetched = reds(&gpu, object, body, &[[0.5; 4], [2.5; 4]]);
    assert_eq!(fetched, [-5.0 / 32_767.0, -1.0]);
}

#[test]
fn linear_memory_is_read_by_whole_numbers() {
    let gpu = Gpu::new();
    let values: Vec<f32> = (0..100).map(|x| x as f32 * 1.5).collect();
    let at = upload(&values);
    let mut resource = CUDA_RESOURCE_DESC { resType: CU_RESOURCE_TYPE_LINEAR, ..CUDA_RESOURCE_DESC::new_zeroed() };
    resource.words[..3].copy_from_slice(&[at.0, u64::from(CU_AD_FORMAT_FLOAT.0) | 1 << 32, 400]);
    let object = texture(&resource, &how(CU_TR_ADDRESS_MODE_CLAMP, POINT, 0));
    let body = "cvt.rzi.s32.f32 %r5, %f0;\ntex.1d.v4.f32.s32 {%f4, %f5, %f6, %f7}, [%rd9, {%r5}];";
    let fetched = reds(&gpu, object, body, &[[0.0; 4], [99.0; 4], [100.0; 4], [-1.0; 4], [42.0; 4]]);
    assert_eq!(fetched, [0.0, 148.5, 0.0, 0.0, 63.0]);
}

#[test]
fn layers_depth_and_faces_are_found() {
    let gpu = Gpu::new();
    // Every element of slice z holds z * 10.
    let slices: Vec<f32> = (0..6 * 16).map(|n| (n / 16) as f32 * 10.0).collect();
    let layered = array(shape([4, 4, 6], CU_AD_FORMAT_FLOAT, 1, CUDA_ARRAY3D_LAYERED), bytes_of(&slices));
    let object = texture(&of_array(layered), &how(CU_TR_ADDRESS_MODE_CLAMP, LINEAR, 0));
    let body = "cvt.rzi.s32.f32 %r5, %f0;\ntex.a2d.v4.f32.f32 {%f4, %f5, %f6, %f7}, [%rd9, {%r5, %f1, %f2, %f2}];";
    let fetched = reds(&gpu, object, body, &[[0.0, 2.0, 2.0, 0.0], [5.0, 1.0, 3.0, 0.0], [9.0, 1.0, 1.0, 0.0]]);
    assert_eq!(fetched, [0.0, 50.0, 50.0]);
    let deep = array(shape([4, 4, 6], CU_AD_FORMAT_FLOAT, 1, 0), bytes_of(&slices));
    let object = texture(&of_array(deep), &how(CU_TR_ADDRESS_MODE_CLAMP, LINEAR, 0));
    let body = "tex.3d.v4.f32.f32 {%f4, %f5, %f6, %f7}, [%rd9, {%f0, %f1, %f2, %f2}];";
    let fetched = reds(&gpu, object, body, &[[2.0, 2.0, 2.0, 0.0], [2.0, 2.0, 3.25, 0.0]]);
    assert_eq!(fetched, [15.0, 27.5], "half between slices 1 and 2, three quarters between 2 and 3");
    let cube = array(shape([4, 4, 6], CU_AD_FORMAT_FLOAT, 1, CUDA_ARRAY3D_CUBEMAP), bytes_of(&slices));
    let object = texture(&of_array(cube), &how(CU_TR_ADDRESS_MODE_CLAMP, POINT, CU_TRSF_NORMALIZED_COORDINATES));
    let body = "tex.cube.v4.f32.f32 {%f4, %f5, %f6, %f7}, [%rd9, {%f0, %f1, %f2, %f2}];";
    let directions = [[1.0, 0.1, 0.2], [-1.0, 0.1, 0.2], [0.3, 2.0, 0.2], [0.3, -2.0, 0.2], [0.0, 0.5, 3.0], [0.0, 0.5, -3.0]];
    let coordinates = directions.map(|[x, y, z]: [f32; 3]| [x, y, z, 0.0]);
    assert_eq!(reds(&gpu, object, body, &coordinates), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]);
}

#[test]
fn levels_of_detail_are_chosen_and_mixed() {
    let gpu = Gpu::new();
    let whole = shape([8, 8, 0], CU_AD_FORMAT_FLOAT, 1, 0);
    let mut mipmapped = CUmipmappedArray(0);
    unsafe { cuMipmappedArrayCreate(&raw mut mipmapped, &raw const whole, 4) }.unwrap();
    for level in 0..4_u32 {
        let mut array = CUarray(0);
        unsafe { cuMipmappedArrayGetLevel(&raw mut array, mipmapped, level) }.unwrap();
        let descriptor = whole.level(level);
        fill(array, &descriptor, bytes_of(&vec![level as f32; (descriptor.Width * descriptor.Height) as usize]));
    }
    let mut resource =
        CUDA_RESOURCE_DESC { resType: CU_RESOURCE_TYPE_MIPMAPPED_ARRAY, ..CUDA_RESOURCE_DESC::new_zeroed() };
    resource.words[0] = mipmapped.0;
    let mut how = how(CU_TR_ADDRESS_MODE_CLAMP, LINEAR, CU_TRSF_NORMALIZED_COORDINATES);
    how.maxMipmapLevelClamp = 2.5;
    how.mipmapFilterMode = LINEAR;
    let object = texture(&resource, &how);
    let at = |level: f32| [0.4, 0.6, level, 0.0];
    let body = "tex.level.2d.v4.f32.f32 {%f4, %f5, %f6, %f7}, [%rd9, {%f0, %f1}], %f2;";
    let asked = [at(0.0), at(1.0), at(1.25), at(9.0), at(-3.0)];
    assert_eq!(reds(&gpu, object, body, &asked), [0.0, 1.0, 1.25, 2.5, 0.0]);
    how.mipmapFilterMode = POINT;
    let object = texture(&resource, &how);
    assert_eq!(reds(&gpu, object, body, &[at(0.4), at(1.6)]), [0.0, 2.0]);
    // A step of a quarter of the texture is two of its elements: level 1.
    let body = "mov.f32 %f9, 0f00000000;\n\
                tex.grad.2d.v4.f32.f32 {%f4, %f5, %f6, %f7}, [%rd9, {%f0, %f1}], {%f2, %f9}, {%f9, %f2};";
    assert_eq!(reds(&gpu, object, body, &[at(0.25), at(0.5)]), [1.0, 2.0]);
    let body = "txq.width.b32 %r0, [%rd9]; txq.height.b32 %r1, [%rd9]; txq.num_mipmap_levels.b32 %r2, [%rd9]; mov.u32 %r3, 1;";
    assert_eq!(fetch_all(&gpu, object, body, &[[0.0; 4]]), [[8, 8, 4, 1]]);
}

#[test]
fn surfaces_are_read_written_and_reduced() {
    let gpu = Gpu::new();
    let descriptor = shape([8, 4, 0], CU_AD_FORMAT_UNSIGNED_INT32, 1, CUDA_ARRAY3D_SURFACE_LDST);
    let values: Vec<u32> = (0..32).collect();
    let array = array(descriptor, bytes_of(&values));
    let resource = of_array(array);
    let mut surface = CUsurfObject(0);
    unsafe { cuSurfObjectCreate(&raw mut surface, &raw const resource) }.unwrap();
    let whole = "cvt.rzi.s32.f32 %r4, %f0; cvt.rzi.s32.f32 %r5, %f1; mov.u32 %r1, 0; mov.u32 %r2, 0; mov.u32 %r3, 0;\n";
    let load = |edge: &str, at: &[[f32; 4]]| {
        let body = format!("{whole}suld.b.2d.b32.{edge} {{%r0}}, [%rd9, {{%r4, %r5}}];");
        fetch_all(&gpu, surface.0, &body, at).iter().map(|all| all[0]).collect::<Vec<_>>()
    };
    assert_eq!(load("trap", &[[0.0, 0.0, 0.0, 0.0], [28.0, 3.0, 0.0, 0.0]]), [0, 31]);
    let outside = [[400.0, 1.0, 0.0, 0.0], [-4.0, 9.0, 0.0, 0.0]];
    assert_eq!(load("clamp", &outside), [15, 24]);
    assert_eq!(load("zero", &outside), [0, 0]);
    let body = format!(
        "{whole}mov.u32 %r6, 1000;\nsust.b.2d.b32.zero [%rd9, {{%r4, %r5}}], {{%r6}};\nmov.u32 %r0, 0;\n\
         suq.width.b32 %r1, [%rd9]; suq.height.b32 %r2, [%rd9];"
    );
    let asked = fetch_all(&gpu, surface.0, &body, &[[4.0, 2.0, 0.0, 0.0], [400.0, 2.0, 0.0, 0.0]]);
    assert_eq!(asked, [[0, 8, 4, 0]; 2]);
    assert_eq!(load("trap", &[[4.0, 2.0, 0.0, 0.0], [8.0, 2.0, 0.0, 0.0]]), [1000, 18]);
    // All 32 threads add to one element.
    let body = format!("{whole}mov.u32 %r6, 3;\nsured.b.add.2d.u32.trap [%rd9, {{%r4, %r5}}], %r6;\nmov.u32 %r0, 0;");
    fetch_all(&gpu, surface.0, &body, &[[8.0, 2.0, 0.0, 0.0]; 32]);
    assert_eq!(load("trap", &[[8.0, 2.0, 0.0, 0.0]]), [18 + 96]);
}

#[test]
fn a_trapping_access_outside_of_a_surface_ends_the_context() {
    let gpu = Gpu::new();
    let descriptor = shape([8, 0, 0], CU_AD_FORMAT_UNSIGNED_INT8, 4, CUDA_ARRAY3D_SURFACE_LDST);
    let resource = of_array(array(descriptor, &[7; 32]));
    let mut surface = CUsurfObject(0);
    unsafe { cuSurfObjectCreate(&raw mut surface, &raw const resource) }.unwrap();
    let ptx = ".visible .entry k(.param .u64 object)\n{\n.reg .b32 %r<3>;\n.reg .b64 %rd<2>;\n\
               ld.param.u64 %rd1, [object];\nmov.u32 %r1, 32;\nsuld.b.1d.b32.trap {%r2}, [%rd1, {%r1}];\nret;\n}";
    let function = gpu.function(ptx, "k");
    launch(function, 1, 1, &[surface.0]);
    assert_eq!(synchronize(), Err(CUDA_ERROR_ILLEGAL_ADDRESS));
}
