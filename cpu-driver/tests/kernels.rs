//! Whole kernels through the C interface, in hand-written PTX.
#![allow(clippy::undocumented_unsafe_blocks, reason = "every call follows CUDA's contract with memory that the test owns")]
#![allow(clippy::cast_possible_truncation, reason = "lanes are few")]
#![allow(clippy::unwrap_used, reason = "a failed call is a failed test")]

mod program;

use program::*;
use paravane_protocol::cuda_types::*;

const VECTOR_ADD: &str = r"
.visible .entry add(.param .u64 a, .param .u64 b, .param .u64 c, .param .u32 n)
{
  .reg .pred %p; .reg .b32 %r<6>; .reg .f32 %f<4>; .reg .b64 %rd<9>;
  ld.param.u64 %rd1, [a]; ld.param.u64 %rd2, [b]; ld.param.u64 %rd3, [c]; ld.param.u32 %r1, [n];
  mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mov.u32 %r4, %tid.x;
  mad.lo.s32 %r5, %r2, %r3, %r4;
  setp.ge.u32 %p, %r5, %r1;
  @%p bra $L_end;
  mul.wide.u32 %rd4, %r5, 4;
  add.s64 %rd5, %rd1, %rd4; add.s64 %rd6, %rd2, %rd4; add.s64 %rd7, %rd3, %rd4;
  ld.global.f32 %f1, [%rd5]; ld.global.f32 %f2, [%rd6];
  add.rn.f32 %f3, %f1, %f2;
  st.global.f32 [%rd7], %f3;
$L_end:
  ret;
}";

#[test]
fn vector_add_over_many_blocks() {
    let gpu = Gpu::new();
    let add = gpu.function(VECTOR_ADD, "add");
    let n = 100_003u32;
    let a: Vec<f32> = (0..n).map(|i| i as f32 * 0.5).collect();
    let b: Vec<f32> = (0..n).map(|i| 1e6 - i as f32).collect();
    let (da, db, dc) = (upload(&a), upload(&b), upload(&vec![0f32; n as usize]));
    launch(add, n.div_ceil(256), 256, &[da.0, db.0, dc.0, u64::from(n)]);
    let c: Vec<f32> = download(dc, n as usize);
    assert!(c.iter().zip(a.iter().zip(&b)).all(|(c, (a, b))| *c == a + b));
}

/// C = A * B in tiles of 16 by 16 through static shared memory.
const MATMUL: &str = r"
.visible .entry matmul(.param .u64 a, .param .u64 b, .param .u64 c, .param .u32 n)
{
  .reg .pred %p; .reg .b32 %r<30>; .reg .f32 %f<4>; .reg .b64 %rd<12>;
  .shared .align 4 .b8 ta[1024];
  .shared .align 4 .b8 tb[1024];
  ld.param.u64 %rd1, [a]; ld.param.u64 %rd2, [b]; ld.param.u64 %rd3, [c]; ld.param.u32 %r1, [n];
  mov.u32 %r2, %tid.x; mov.u32 %r3, %tid.y; mov.u32 %r4, %ctaid.x; mov.u32 %r5, %ctaid.y;
  shl.b32 %r6, %r5, 4; add.u32 %r6, %r6, %r3;
  shl.b32 %r7, %r4, 4; add.u32 %r7, %r7, %r2;
  shl.b32 %r8, %r3, 6; shl.b32 %r9, %r2, 2; add.u32 %r10, %r8, %r9;
  mov.u32 %r11, ta; mov.u32 %r12, tb;
  add.u32 %r13, %r11, %r10; add.u32 %r14, %r12, %r10;
  add.u32 %r15, %r11, %r8; add.u32 %r16, %r12, %r9;
  mov.f32 %f1, 0f00000000;
  mov.u32 %r17, 0;
$L_tile:
  shl.b32 %r18, %r17, 4;
  add.u32 %r19, %r18, %r2; mad.lo.u32 %r20, %r6, %r1, %r19;
  mad.wide.u32 %rd4, %r20, 4, %rd1; ld.global.f32 %f2, [%rd4]; st.shared.f32 [%r13], %f2;
  add.u32 %r19, %r18, %r3; mad.lo.u32 %r20, %r19, %r1, %r7;
  mad.wide.u32 %rd4, %r20, 4, %rd2; ld.global.f32 %f2, [%rd4]; st.shared.f32 [%r14], %f2;
  bar.sync 0;
  mov.u32 %r21, 0;
$L_k:
  shl.b32 %r22, %r21, 2; add.u32 %r23, %r15, %r22; ld.shared.f32 %f2, [%r23];
  shl.b32 %r24, %r21, 6; add.u32 %r25, %r16, %r24; ld.shared.f32 %f3, [%r25];
  fma.rn.f32 %f1, %f2, %f3, %f1;
  add.u32 %r21, %r21, 1; setp.lt.u32 %p, %r21, 16; @%p bra $L_k;
  bar.sync 0;
  add.u32 %r17, %r17, 1; shl.b32 %r26, %r17, 4; setp.lt.u32 %p, %r26, %r1; @%p bra $L_tile;
  mad.lo.u32 %r20, %r6, %r1, %r7; mad.wide.u32 %rd4, %r20, 4, %rd3; st.global.f32 [%rd4], %f1;
  ret;
}";

#[test]
fn tiled_matrix_product_with_barriers() {
    let gpu = Gpu::new();
    let matmul = gpu.function(MATMUL, "matmul");
    let n = 64usize;
    let a: Vec<f32> = (0..n * n).map(|i| (i % 7) as f32 - 3.0).collect();
    let b: Vec<f32> = (0..n * n).map(|i| (i % 5) as f32).collect();
    let (da, db, dc) = (upload(&a), upload(&b), upload(&vec![0f32; n * n]));
    launch_on(matmul, [4, 4, 1], [16, 16, 1], 0, CUstream(0), &[da.0, db.0, dc.0, n as u64]).unwrap();
    let c: Vec<f32> = download(dc, n * n);
    for (i, c) in c.iter().enumerate() {
        let expected: f32 = (0..n).map(|k| a[i / n * n + k] * b[k * n + i % n]).sum();
        assert_eq!(*c, expected, "element {i}");
    }
}

/// Shuffles inside a warp, dynamic shared memory between warps, an atomic between blocks.
const REDUCE: &str = r"
.extern .shared .align 4 .b8 partial[];
.visible .entry sum(.param .u64 in, .param .u64 out, .param .u32 n)
{
  .reg .pred %p<3>; .reg .b32 %r<30>; .reg .b64 %rd<6>;
  ld.param.u64 %rd1, [in]; ld.param.u64 %rd2, [out]; ld.param.u32 %r1, [n];
  mov.u32 %r2, %tid.x; mov.u32 %r3, %ctaid.x; mov.u32 %r4, %ntid.x; mov.u32 %r5, %nctaid.x;
  mad.lo.u32 %r6, %r3, %r4, %r2; mul.lo.u32 %r7, %r4, %r5; mov.u32 %r8, 0;
$L_more:
  setp.ge.u32 %p0, %r6, %r1; @%p0 bra $L_done;
  mad.wide.u32 %rd3, %r6, 4, %rd1; ld.global.u32 %r9, [%rd3]; add.u32 %r8, %r8, %r9;
  add.u32 %r6, %r6, %r7; bra $L_more;
$L_done:
  shfl.sync.down.b32 %r9, %r8, 16, 31, -1; add.u32 %r8, %r8, %r9;
  shfl.sync.down.b32 %r9, %r8, 8, 31, -1; add.u32 %r8, %r8, %r9;
  shfl.sync.bfly.b32 %r9, %r8, 4, 31, -1; add.u32 %r8, %r8, %r9;
  shfl.sync.bfly.b32 %r9, %r8, 2, 31, -1; add.u32 %r8, %r8, %r9;
  shfl.sync.down.b32 %r9|%p2, %r8, 1, 31, -1; add.u32 %r8, %r8, %r9;
  mov.u32 %r10, %laneid; setp.eq.u32 %p1, %r10, 0;
  shr.u32 %r11, %r2, 5; shl.b32 %r12, %r11, 2; mov.u32 %r13, partial; add.u32 %r14, %r13, %r12;
  @%p1 st.shared.u32 [%r14], %r8;
  bar.sync 0;
  setp.ne.u32 %p0, %r2, 0; @%p0 bra $L_end;
  mov.u32 %r15, 0; mov.u32 %r16, 0; shr.u32 %r17, %r4, 5;
$L_add:
  ld.shared.u32 %r18, [%r13]; add.u32 %r15, %r15, %r18; add.u32 %r13, %r13, 4;
  add.u32 %r16, %r16, 1; setp.lt.u32 %p0, %r16, %r17; @%p0 bra $L_add;
  red.global.add.u32 [%rd2], %r15;
$L_end:
  ret;
}";

#[test]
fn reduction_by_shuffles_shared_memory_and_atomics() {
    let gpu = Gpu::new();
    let sum = gpu.function(REDUCE, "sum");
    let n = 50_021u32;
    let values: Vec<u32> = (0..n).map(|i| i.wrapping_mul(2_654_435_761) >> 8).collect();
    let (input, output) = (upload(&values), upload(&[0u32]));
    launch_on(sum, [7, 1, 1], [256, 1, 1], 32, CUstream(0), &[input.0, output.0, u64::from(n)]).unwrap();
    let expected = values.iter().fold(0u32, |sum, value| sum.wrapping_add(*value));
    assert_eq!(download::<u32>(output, 1), [expected]);
}

#[test]
fn lanes_leave_a_loop_at_different_turns_and_meet_again() {
    // Collatz steps of tid + 1, then a ballot that all 32 lanes must reach together.
    let steps = run_u32(
        64,
        "mov.u32 %r0, 0; add.u32 %r2, %r1, 1;
        $L_loop: setp.le.u32 %p1, %r2, 1; @%p1 bra $L_out;
        and.b32 %r3, %r2, 1; setp.eq.u32 %p2, %r3, 0; @%p2 bra $L_even;
        mad.lo.u32 %r2, %r2, 3, 1; bra.uni $L_next;
        $L_even: shr.u32 %r2, %r2, 1;
        $L_next: add.u32 %r0, %r0, 1; bra.uni $L_loop;
        $L_out: activemask.b32 %r4; setp.ne.u32 %p3, %r4, -1; @%p3 mov.u32 %r0, 999;",
    );
    for (i, steps) in steps.into_iter().enumerate() {
        let (mut n, mut expected) = (i as u32 + 1, 0);
        while n > 1 {
            n = if n.is_multiple_of(2) { n / 2 } else { 3 * n + 1 };
            expected += 1;
        }
        assert_eq!(steps, expected, "lane {i}");
    }
}

#[test]
fn a_spinlock_inside_a_warp_is_passed_on() {
    let gpu = Gpu::new();
    let ptx = r"
.visible .entry locked(.param .u64 lock, .param .u64 counter)
{
  .reg .pred %p; .reg .b32 %r<4>; .reg .b64 %rd<3>;
  ld.param.u64 %rd1, [lock]; ld.param.u64 %rd2, [counter];
$L_try:
  atom.global.cas.b32 %r1, [%rd1], 0, 1; setp.ne.s32 %p, %r1, 0; @%p bra $L_try;
  ld.volatile.global.u32 %r2, [%rd2]; add.u32 %r2, %r2, 1; st.volatile.global.u32 [%rd2], %r2;
  membar.gl;
  atom.global.exch.b32 %r3, [%rd1], 0;
  ret;
}";
    let function = gpu.function(ptx, "locked");
    let (lock, counter) = (upload(&[0u32]), upload(&[0u32]));
    launch(function, 4, 64, &[lock.0, counter.0]);
    assert_eq!(download::<u32>(counter, 1), [256]);
}

#[test]
fn calls_recursion_and_function_pointers() {
    let gpu = Gpu::new();
    let ptx = r"
.func (.param .b32 result) fib(.param .b32 n)
{
  .reg .pred %p; .reg .b32 %r<6>;
  ld.param.u32 %r1, [n];
  setp.lt.u32 %p, %r1, 2; @%p bra $L_small;
  sub.u32 %r2, %r1, 1;
  { .param .b32 p0; .param .b32 q0; st.param.b32 [p0], %r2; call.uni (q0), fib, (p0); ld.param.b32 %r3, [q0]; }
  sub.u32 %r2, %r1, 2;
  { .param .b32 p0; .param .b32 q0; st.param.b32 [p0], %r2; call.uni (q0), fib, (p0); ld.param.b32 %r4, [q0]; }
  add.u32 %r5, %r3, %r4; st.param.b32 [result], %r5; ret;
$L_small:
  st.param.b32 [result], %r1; ret;
}
.func (.param .b32 result) twice(.param .b32 n)
{
  .reg .b32 %r<3>; .local .align 4 .b8 own[8]; .reg .b64 %rd<3>;
  ld.param.u32 %r1, [n]; mov.u64 %rd1, own; cvta.local.u64 %rd2, %rd1; st.u32 [%rd2+4], %r1;
  ld.local.u32 %r2, [own+4]; shl.b32 %r2, %r2, 1; st.param.b32 [result], %r2; ret;
}
.visible .global .align 8 .u64 table[2] = {fib, twice};
.visible .entry k(.param .u64 out)
{
  .reg .b32 %r<6>; .reg .b64 %rd<6>;
  mov.u32 %r1, %tid.x; and.b32 %r2, %r1, 1; shr.u32 %r3, %r1, 1;
  mad.wide.u32 %rd1, %r2, 8, table; ld.global.u64 %rd2, [%rd1];
  proto: .callprototype (.param .b32 _) _ (.param .b32 _);
  { .param .b32 p0; .param .b32 q0; st.param.b32 [p0+0], %r3; call (q0), %rd2, (p0), proto; ld.param.b32 %r4, [q0+0]; }
  ld.param.u64 %rd3, [out]; mad.wide.u32 %rd3, %r1, 4, %rd3; st.global.u32 [%rd3], %r4; ret;
}";
    let function = gpu.function(ptx, "k");
    let out = upload(&[0u32; 32]);
    launch(function, 1, 32, &[out.0]);
    let fib = |n: u32| (0..n).fold((0, 1), |(a, b), _| (b, a + b)).0;
    for (i, value) in download::<u32>(out, 32).into_iter().enumerate() {
        let n = i as u32 / 2;
        assert_eq!(value, if i % 2 == 0 { fib(n) } else { 2 * n }, "lane {i}");
    }
}

#[test]
fn globals_constants_and_vectors() {
    let gpu = Gpu::new();
    let ptx = r"
.visible .const .align 4 .u32 factors[4] = {3, 5, 7, 11};
.visible .global .align 16 .u32 state[4];
.visible .entry k()
{
  .reg .b32 %r<9>; .reg .b64 %rd<3>;
  ld.const.u32 %r1, [factors+4];
  ld.const.v2.u32 {%r2, %r3}, [factors+8];
  ld.global.v4.u32 {%r4, %r5, %r6, %r7}, [state];
  add.u32 %r4, %r4, %r1; add.u32 %r5, %r5, %r2; add.u32 %r6, %r6, %r3;
  st.global.v4.u32 [state], {%r4, %r5, %r6, %r7};
  ret;
}";
    let module = gpu.module(ptx);
    let (mut at, mut size) = (CUdeviceptr(0), 0);
    unsafe { paravane_cpu::api::cuModuleGetGlobal_v2(&raw mut at, &raw mut size, module, c"state".as_ptr()) }.unwrap();
    assert_eq!(size, 16);
    assert_eq!(download::<u32>(at, 4), [0; 4]);
    launch(function_of(module, "k"), 1, 1, &[]);
    launch(function_of(module, "k"), 1, 1, &[]);
    assert_eq!(download::<u32>(at, 4), [10, 14, 22, 0]);
}

#[test]
fn a_waiter_is_not_held_by_another_streams_kernel() {
    // The kernel that runs on and on ends by what its waiter does after waiting for something else.
    let gpu = Gpu::new();
    let ptx = r"
.visible .entry hold(.param .u64 flag)
{
  .reg .pred %p; .reg .b32 %r; .reg .b64 %rd; ld.param.u64 %rd, [flag];
$L_wait: ld.volatile.global.u32 %r, [%rd]; setp.eq.u32 %p, %r, 0; @%p bra $L_wait; ret;
}
.visible .entry count(.param .u64 at)
{
  .reg .pred %p; .reg .b32 %r<3>; .reg .b64 %rd; ld.param.u64 %rd, [at]; mov.u32 %r1, 0;
$L_more: add.u32 %r1, %r1, 1; setp.lt.u32 %p, %r1, 20000; @%p bra $L_more; red.global.add.u32 [%rd], 1; ret;
}";
    let module = gpu.module(ptx);
    let (hold, count) = (function_of(module, "hold"), function_of(module, "count"));
    let mut streams = [CUstream(0); 6];
    for stream in &mut streams {
        unsafe { paravane_cpu::api::cuStreamCreate(stream, 1) }.unwrap();
    }
    let (flag, counter) = (upload(&[0u32]), upload(&[0u32]));
    for stream in &streams[1..] {
        launch_on(hold, [1; 3], [1; 3], 0, *stream, &[flag.0]).unwrap();
    }
    launch_on(count, [8, 1, 1], [32, 1, 1], 0, streams[0], &[counter.0]).unwrap();
    unsafe { paravane_cpu::api::cuStreamSynchronize(streams[0]) }.unwrap();
    unsafe { paravane_cpu::api::cuMemsetD32Async(flag, 1, 1, streams[0]) }.unwrap();
    synchronize().unwrap();
    assert_eq!(download::<u32>(counter, 1), [8 * 32]);
}

#[test]
fn failed_assertions_and_output() {
    let gpu = Gpu::new();
    let ptx = r"
.extern .func __assertfail(.param .b64 a, .param .b64 b, .param .b32 c, .param .b64 d, .param .b64 e);
.extern .func (.param .b32 r) vprintf(.param .b64 a, .param .b64 b);
.global .align 1 .b8 text[6] = {120, 32, 62, 32, 48, 0};
.global .align 1 .b8 format[3] = {37, 37, 0};
.visible .entry print()
{
  .reg .b64 %rd<3>; .param .b64 p0; .param .b64 p1; .param .b32 q;
  mov.u64 %rd1, format; cvta.global.u64 %rd1, %rd1; mov.u64 %rd2, 0;
  st.param.b64 [p0], %rd1; st.param.b64 [p1], %rd2; call.uni (q), vprintf, (p0, p1); ret;
}
.visible .entry check(.param .u32 x)
{
  .reg .pred %p; .reg .b32 %r<2>; .reg .b64 %rd<3>; ld.param.u32 %r1, [x]; setp.gt.u32 %p, %r1, 0; @%p ret;
  mov.u64 %rd1, text; cvta.global.u64 %rd1, %rd1;
  { .param .b64 a; .param .b64 b; .param .b32 c; .param .b64 d; .param .b64 e;
  st.param.b64 [a], %rd1; st.param.b64 [b], %rd1; st.param.b32 [c], 7; st.param.b64 [d], %rd1; st.param.b64 [e], 1;
  call.uni __assertfail, (a, b, c, d, e); }
  ret;
}";
    let module = gpu.module(ptx);
    launch(function_of(module, "print"), 1, 1, &[]);
    launch(function_of(module, "check"), 1, 32, &[1]);
    assert_eq!(synchronize(), Ok(()));
    launch(function_of(module, "check"), 1, 32, &[0]);
    assert_eq!(synchronize(), Err(CUDA_ERROR_ASSERT));
}

#[test]
fn block_wide_reductions_and_named_barriers() {
    // Threads below 64 meet at barrier 1, all vote at barrier 0.
    let out = run_u32(
        128,
        "setp.lt.u32 %p1, %r1, 64; @!%p1 bra $L_all; bar.sync 1, 64; $L_all:
        setp.eq.u32 %p2, %r1, 77; bar.red.popc.u32 %r2, 0, !%p2; bar.red.or.pred %p3, 0, %p2;
        bar.red.and.pred %p4, 0, %p2; mov.u32 %r0, %r2; @%p3 add.u32 %r0, %r0, 1000; @%p4 add.u32 %r0, %r0, 5000;",
    );
    assert!(out.iter().all(|value| *value == 1127), "{out:?}");
}

#[test]
fn votes_matches_and_reductions_over_part_of_a_warp() {
    let out = run_u32(
        32,
        "setp.lt.u32 %p1, %r1, 8; mov.u32 %r0, 0; @!%p1 bra $L_rest;
        and.b32 %r2, %r1, 1; setp.eq.u32 %p2, %r2, 1;
        vote.sync.ballot.b32 %r3, %p2, 0xff; redux.sync.add.s32 %r4, %r1, 0xff; match.any.sync.b32 %r5, %r2, 0xff;
        add.u32 %r0, %r3, %r4; add.u32 %r0, %r0, %r5; bra.uni $L_end;
        $L_rest: shfl.sync.idx.b32 %r0, %r1, 9, 31, 0xffffff00;
        $L_end: bar.warp.sync -1;",
    );
    for (lane, value) in out.into_iter().enumerate() {
        let expected = match lane {
            0..8 => 0xaa + 28 + if lane % 2 == 0 { 0x55 } else { 0xaa },
            _ => 9,
        };
        assert_eq!(value, expected, "lane {lane}");
    }
}

#[test]
fn elements_of_arrays_have_places_and_policies_have_values() {
    let body = ".local .align 4 .b32 line[4]; mov.u64 %rd1, line[2]; add.u32 %r2, %r1, 7; st.local.u32 [%rd1], %r2;
        createpolicy.fractional.L2::evict_first.b64 %rd2, 1.0; ld.local.u32 %r3, [line+8];
        setp.eq.u64 %p1, %rd2, %rd2; selp.u32 %r0, %r3, 0, %p1;";
    assert_eq!(run_u32(3, body), [7, 8, 9]);
}

#[test]
fn addresses_of_32_bits_wrap() {
    let body = ".shared .align 4 .b32 line[8]; mov.u32 %r2, line; sub.u32 %r2, %r2, 4096;
        st.shared.u32 [%r2+4096], 5; atom.shared.add.u32 %r3, [%r2+4096], 2; ld.shared.u32 %r0, [%r2+4096];
        add.u32 %r0, %r0, %r3;";
    assert_eq!(run_u32(1, body), [12]);
}
