//! Asynchronous copies, the barriers that wait for them, and what the device runtime gives.
#![allow(clippy::undocumented_unsafe_blocks, reason = "every call follows CUDA's contract with memory that the test owns")]
#![allow(clippy::unwrap_used, reason = "a failed call is a failed test")]

mod program;

use paravane_cpu::api::*;
use paravane_protocol::cuda_types::*;
use program::*;

/// 64 threads in two warps wait for each other three times; the last phase also for 32 bytes.
#[test]
fn barriers_in_shared_memory_wait_for_arrivals_and_bytes() {
    let gpu = Gpu::new();
    let k = gpu.function(
        ".visible .entry k(.param .u64 in, .param .u64 out) {
  .reg .pred %p<4>; .reg .b32 %r<12>; .reg .b64 %rd<8>;
  .shared .align 16 .b8 bytes[32]; .shared .align 8 .b64 barrier; .shared .align 4 .u32 count;
  mov.u32 %r0, %tid.x; mov.u32 %r1, barrier; mov.u32 %r2, bytes; mov.u32 %r3, count;
  ld.param.u64 %rd1, [in]; ld.param.u64 %rd2, [out];
  setp.ne.u32 %p1, %r0, 0;
  @%p1 bra READY;
  mbarrier.init.shared::cta.b64 [%r1], 64; st.shared.u32 [%r3], 0;
READY:
  bar.sync 0;
  atom.shared.add.u32 %r4, [%r3], 1;
  mbarrier.arrive.shared.b64 %rd3, [%r1];
FIRST:
  mbarrier.test_wait.shared.b64 %p2, [%r1], %rd3;
  @!%p2 bra FIRST;
  ld.shared.u32 %r5, [%r3];
  @%p1 bra OTHERS;
  mbarrier.arrive.expect_tx.shared.b64 _, [%r1], 32;
  cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd1], 32, [%r1];
  bra SECOND;
OTHERS:
  mbarrier.arrive.release.cta.shared::cta.b64 %rd4, [%r1];
SECOND:
  mbarrier.try_wait.parity.shared.b64 %p3, [%r1], 1;
  @!%p3 bra SECOND;
  and.b32 %r6, %r0, 7; mad.lo.u32 %r6, %r6, 4, %r2; ld.shared.u32 %r7, [%r6];
  mad.lo.u32 %r8, %r5, 1000, %r7;
  mad.wide.u32 %rd2, %r0, 4, %rd2; st.global.u32 [%rd2], %r8; ret; }",
        "k",
    );
    let (from, out) = (upload(&[1u32, 2, 3, 4, 5, 6, 7, 8]), upload(&[0u32; 64]));
    launch(k, 1, 64, &[from.0, out.0]);
    for (thread, got) in download::<u32>(out, 64).into_iter().enumerate() {
        assert_eq!(got, 64_000 + u32::try_from(thread % 8).unwrap() + 1, "thread {thread}");
    }
}

#[test]
fn small_copies_fill_with_zeros() {
    let gpu = Gpu::new();
    let k = gpu.function(
        ".visible .entry k(.param .u64 in, .param .u64 out) {
  .reg .pred %p<2>; .reg .b32 %r<9>; .reg .b64 %rd<3>; .shared .align 16 .b8 buffer[48];
  mov.u32 %r0, buffer; ld.param.u64 %rd1, [in]; ld.param.u64 %rd2, [out]; mov.u32 %r1, 5;
  cp.async.cg.shared.global [%r0], [%rd1], 16;
  cp.async.ca.shared.global [%r0+16], [%rd1+16], 8, %r1;
  cp.async.ca.shared.global [%r0+24], [%rd1], 4, 0;
  cp.async.commit_group; cp.async.wait_group 0;
  ld.shared.v4.u32 {%r1, %r2, %r3, %r4}, [%r0]; ld.shared.v4.u32 {%r5, %r6, %r7, %r8}, [%r0+16];
  st.global.v4.u32 [%rd2], {%r1, %r2, %r3, %r4}; st.global.v4.u32 [%rd2+16], {%r5, %r6, %r7, %r8}; ret; }",
        "k",
    );
    let from: Vec<u32> = (1..=8).map(|n| n * 0x0101_0101).collect();
    let (from, out) = (upload(&from), upload(&[0xffff_ffffu32; 8]));
    launch(k, 1, 1, &[from.0, out.0]);
    let got = download::<u32>(out, 8);
    assert_eq!(got[..6], [0x0101_0101, 0x0202_0202, 0x0303_0303, 0x0404_0404, 0x0505_0505, 6]);
    assert_eq!(got[6], 0);
}

/// Each thread has a block of its own, which keeps what the thread writes; too large a block is NULL.
#[test]
fn kernels_allocate_and_free() {
    let gpu = Gpu::new();
    let k = gpu.function(
        ".extern .func (.param .b64 at) malloc(.param .b64 size);
.extern .func free(.param .b64 at);
.visible .entry k(.param .u64 out) {
  .reg .pred %p<2>; .reg .b32 %r<4>; .reg .b64 %rd<6>;
  mov.u32 %r0, %tid.x; ld.param.u64 %rd1, [out];
  { .param .b64 size; .param .b64 at; st.param.b64 [size], 24; call (at), malloc, (size); ld.param.b64 %rd2, [at]; }
  st.u32 [%rd2+20], %r0;
  bar.sync 0;
  ld.u32 %r1, [%rd2+20];
  { .param .b64 at; st.param.b64 [at], %rd2; call free, (at); }
  { .param .b64 size; .param .b64 at; st.param.b64 [size], 0x40000000; call (at), malloc, (size); ld.param.b64 %rd3, [at]; }
  setp.eq.u64 %p1, %rd3, 0; selp.u32 %r2, 1000, 0, %p1; add.u32 %r1, %r1, %r2;
  mad.wide.u32 %rd1, %r0, 4, %rd1; st.global.u32 [%rd1], %r1; ret; }",
        "k",
    );
    let out = upload(&[0u32; 64]);
    launch(k, 1, 64, &[out.0]);
    assert_eq!(download::<u32>(out, 64), (0..64).map(|n| n + 1000).collect::<Vec<u32>>());
}

/// Every CTA sees what all others wrote before the grid met.
#[test]
fn the_grid_meets() {
    let gpu = Gpu::new();
    let k = gpu.function(
        ".extern .func (.param .b64 handle) cudaCGGetIntrinsicHandle(.param .b32 scope);
.extern .func (.param .b32 result) cudaCGSynchronize(.param .b64 handle, .param .b32 flags);
.visible .entry k(.param .u64 count, .param .u64 out) {
  .reg .b32 %r<6>; .reg .b64 %rd<6>;
  ld.param.u64 %rd1, [count]; ld.param.u64 %rd2, [out];
  { .param .b32 scope; .param .b64 handle; st.param.b32 [scope], 1; call (handle), cudaCGGetIntrinsicHandle, (scope);
    ld.param.b64 %rd3, [handle]; }
  red.global.add.u32 [%rd1], 1;
  { .param .b64 handle; .param .b32 flags; .param .b32 result; st.param.b64 [handle], %rd3; st.param.b32 [flags], 0;
    call (result), cudaCGSynchronize, (handle, flags); ld.param.b32 %r1, [result]; }
  ld.volatile.global.u32 %r2, [%rd1];
  add.u32 %r2, %r2, %r1;
  mov.u32 %r3, %ctaid.x; mov.u32 %r4, %ntid.x; mov.u32 %r5, %tid.x; mad.lo.u32 %r3, %r3, %r4, %r5;
  mad.wide.u32 %rd2, %r3, 4, %rd2; st.global.u32 [%rd2], %r2; ret; }",
        "k",
    );
    let (count, out) = (upload(&[0u32]), upload(&[0u32; 192]));
    let (mut first, mut second) = (count.0, out.0);
    let mut arguments = [(&raw mut first).cast(), (&raw mut second).cast()];
    unsafe { cuLaunchCooperativeKernel(k, 3, 1, 1, 64, 1, 1, 0, CUstream(0), arguments.as_mut_ptr()) }.unwrap();
    assert_eq!(download::<u32>(out, 192), vec![192; 192]);
}

#[test]
fn functions_take_and_give_registers_and_have_other_names() {
    let gpu = Gpu::new();
    let k = gpu.function(
        ".func (.reg .b32 sum) add3(.reg .b32 a, .reg .b32 b, .param .b32 c) {
  .reg .pred %p; .reg .b32 %x; ld.param.b32 %x, [c]; add.s32 sum, a, b; setp.gt.s32 %p, sum, 100; @%p ret;
  add.s32 sum, sum, %x; ret; }
.func (.param .b32 r) twice(.param .b32 a) { .reg .b32 %x; ld.param.b32 %x, [a]; shl.b32 %x, %x, 1; st.param.b32 [r], %x; ret; }
.func (.param .b32 r) other(.param .b32 a);
.alias other, twice;
.visible .entry k(.param .u64 out) {
  .reg .b32 %r<6>; .reg .b64 %rd<2>;
  mov.u32 %r1, %tid.x; mov.u32 %r2, 1000; mul.lo.u32 %r5, %r1, 60;
  { .param .b32 c; st.param.b32 [c], 7; call (%r3), add3, (%r1, %r5, c); }
  { .param .b32 a; .param .b32 r; st.param.b32 [a], %r3; call (r), other, (a); ld.param.b32 %r4, [r]; }
  ld.param.u64 %rd1, [out]; mad.wide.u32 %rd1, %r1, 4, %rd1; st.global.u32 [%rd1], %r4; ret; }",
        "k",
    );
    let out = upload(&[0u32; 4]);
    launch(k, 1, 4, &[out.0]);
    assert_eq!(download::<u32>(out, 4), [14, 2 * (61 + 7), 2 * 122, 2 * 183]);
}

/// A shared variable inside a device function is every kernel's that may call it.
#[test]
fn functions_have_shared_variables_of_their_own() {
    let gpu = Gpu::new();
    let k = gpu.function(
        ".func (.param .b32 r) sum(.param .b32 a) {
  .reg .b32 %x; .reg .b32 %y; .shared .align 4 .u32 total;
  ld.param.b32 %x, [a]; atom.shared.add.u32 %y, [total], %x; bar.sync 0; ld.shared.u32 %y, [total];
  st.param.b32 [r], %y; ret; }
.visible .entry k(.param .u64 out) {
  .reg .pred %p; .reg .b32 %r<4>; .reg .b64 %rd<2>; .shared .align 4 .u32 mine;
  mov.u32 %r1, %tid.x; st.shared.u32 [mine], 77;
  { .param .b32 a; .param .b32 r; st.param.b32 [a], %r1; call (r), sum, (a); ld.param.b32 %r2, [r]; }
  ld.shared.u32 %r3, [mine]; mad.lo.u32 %r2, %r3, 1000, %r2;
  ld.param.u64 %rd1, [out]; mad.wide.u32 %rd1, %r1, 4, %rd1; st.global.u32 [%rd1], %r2; ret; }",
        "k",
    );
    let out = upload(&[0u32; 8]);
    launch(k, 1, 8, &[out.0]);
    assert_eq!(download::<u32>(out, 8), [77_028; 8]);
}

#[test]
fn vectors_are_updated_element_by_element() {
    let gpu = Gpu::new();
    let k = gpu.function(
        ".visible .entry k(.param .u64 to, .param .u64 halves) {
  .reg .b32 %r<4>; .reg .f32 %f<8>; .reg .b64 %rd<3>;
  ld.param.u64 %rd1, [to]; ld.param.u64 %rd2, [halves];
  mov.f32 %f0, 0f3F800000; mov.f32 %f1, 0f40000000; mov.u32 %r0, 0x3c003c00; mov.u32 %r1, 0x40004000;
  atom.global.v2.f32.add {%f2, %f3}, [%rd1], {%f0, %f1};
  red.global.v2.f16x2.max.noftz [%rd2], {%r0, %r1};
  ret; }",
        "k",
    );
    let (to, halves) = (upload(&[0f32, 10.0]), upload(&[0x4000_0000u32, 0x3c00_4400]));
    launch(k, 1, 8, &[to.0, halves.0]);
    assert_eq!(download::<f32>(to, 2), [8.0, 26.0]);
    assert_eq!(download::<u32>(halves, 2), [0x4000_3c00, 0x4000_4400]);
}

#[test]
fn parts_of_words() {
    let one = |body: &str| run_u32(1, body)[0];
    assert_eq!(one("mov.u32 %r2, 0x1000003; mov.u32 %r3, 5; mul24.lo.u32 %r0, %r2, %r3;"), 15);
    assert_eq!(one("mov.u32 %r2, 0xffffff; mov.u32 %r3, 3; mad24.lo.s32 %r0, %r2, %r3, 10;"), 7);
    assert_eq!(one("mov.u32 %r2, 0x00050003; mov.u32 %r3, 0x04030201; dp2a.lo.u32.u32 %r0, %r2, %r3, 1;"), 3 + 10 + 1);
    assert_eq!(one("mov.u32 %r2, 0xffff0003; mov.u32 %r3, 1; mov.u32 %r4, 0x00020004; add.u16x2 %r0, %r2, %r4;"), 0x0001_0007);
    assert_eq!(one("mov.u32 %r2, 0x80000005; mov.u32 %r3, 0x00010003; min.s16x2 %r0, %r2, %r3;"), 0x8000_0003);
    assert_eq!(one("mov.u32 %r2, 0xf0; fns.b32 %r0, %r2, 0, 2;"), 5);
    assert_eq!(one("mov.u32 %r2, 0x1ff; szext.clamp.s32 %r0, %r2, 8;"), u32::MAX);
    let truth = "lop3.or.b32 %r2|%p1, %r1, 0, 0, 0xc0, %p0; selp.u32 %r0, 1, 0, %p1;";
    assert_eq!(one(&format!("setp.ne.u32 %p0, %r1, %r1; {truth}")), 0);
    assert_eq!(one("mov.b16 %h1, 0x3c00; mov.b16 %h2, 0x4000; set.lt.f16.f16 %h3, %h1, %h2; cvt.u32.u16 %r0, %h3;"), 0x3c00);
    let packed = "mov.u32 %r2, 0x3c004000; mov.u32 %r3, 0x40003c00;";
    assert_eq!(one(&format!("{packed} set.gt.u32.f16x2 %r0, %r2, %r3;")), 0xffff);
    let pair = "setp.gt.f16x2 %p1|%p2, %r2, %r3; selp.u32 %r4, 1, 0, %p1; selp.u32 %r5, 2, 0, %p2; add.u32 %r0, %r4, %r5;";
    assert_eq!(one(&format!("{packed} {pair}")), 1);
    assert_eq!(one("mov.f32 %f1, 0f3F800000; mov.f32 %f2, 0fC0000000; cvt.rn.satfinite.e4m3x2.f32 %h1, %f1, %f2; cvt.u32.u16 %r0, %h1;"), 0x38c0);
    assert_eq!(one("mov.b16 %h1, 0x38c0; cvt.rn.f16x2.e4m3x2 %r0, %h1;"), 0x3c00_c000);
    assert_eq!(one("mov.f32 %f1, 0f3F801000; cvt.rna.tf32.f32 %r0, %f1;"), 0x3f80_2000);
    assert_eq!(one("mov.u32 %r2, 300; mov.u32 %r3, -5; mov.u32 %r4, 9; cvt.pack.sat.u8.s32.b32 %r0, %r2, %r3, %r4;"), 9 << 16 | 255 << 8);
}
