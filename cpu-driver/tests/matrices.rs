//! Matrix instructions against products computed here, with tiles laid out by hand as the PTX ISA
//! says.
#![allow(clippy::undocumented_unsafe_blocks, reason = "every call follows CUDA's contract with memory that the test owns")]
#![allow(clippy::unwrap_used, reason = "a failed call is a failed test")]
#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_possible_wrap, reason = "small numbers")]

mod program;

use half::f16;
use program::*;

/// Small whole numbers, so that every sum is exact.
fn value(row: usize, column: usize) -> f32 {
    ((row * 7 + column * 3) % 9) as f32 - 4.0
}

fn product(rows: usize, columns: usize, depth: usize) -> Vec<f32> {
    let element = |row: usize, column: usize| -> f32 {
        (0..depth).map(|k| value(row, k) * value(k + 1, column)).sum::<f32>() + (row + column) as f32
    };
    (0..rows * columns).map(|at| element(at / columns, at % columns)).collect()
}

fn halves(low: f32, high: f32) -> u32 {
    u32::from(f16::from_f32(low).to_bits()) | u32::from(f16::from_f32(high).to_bits()) << 16
}

/// PTX ISA, m16n8k16 with halves: a0,a1 (g, 2t..), a2,a3 (g+8, 2t..), a4.. the same 8 columns on;
/// b0,b1 (2t.., g), b2,b3 (2t+8.., g); c0,c1 (g, 2t..), c2,c3 (g+8, 2t..).
#[test]
fn halves_are_multiplied_and_added_in_single_precision() {
    let (mut a, mut b, mut c) = (vec![], vec![], vec![]);
    for lane in 0..32 {
        let (g, t) = (lane / 4, lane % 4 * 2);
        for (row, column) in [(g, t), (g + 8, t), (g, t + 8), (g + 8, t + 8)] {
            a.push(halves(value(row, column), value(row, column + 1)));
        }
        for row in [t, t + 8] {
            b.push(halves(value(row + 1, g), value(row + 2, g)));
        }
        for (row, column) in [(g, t), (g, t + 1), (g + 8, t), (g + 8, t + 1)] {
            c.push((row + column) as f32);
        }
    }
    let gpu = Gpu::new();
    let k = gpu.function(
        ".visible .entry k(.param .u64 a, .param .u64 b, .param .u64 c) {
  .reg .b32 %r<16>; .reg .f32 %f<4>; .reg .b64 %rd<4>;
  mov.u32 %r0, %tid.x;
  ld.param.u64 %rd1, [a]; ld.param.u64 %rd2, [b]; ld.param.u64 %rd3, [c];
  mad.wide.u32 %rd1, %r0, 16, %rd1; mad.wide.u32 %rd2, %r0, 8, %rd2; mad.wide.u32 %rd3, %r0, 16, %rd3;
  ld.global.v4.b32 {%r1, %r2, %r3, %r4}, [%rd1]; ld.global.v2.b32 {%r5, %r6}, [%rd2];
  ld.global.v4.f32 {%f0, %f1, %f2, %f3}, [%rd3];
  mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f0, %f1, %f2, %f3}, {%r1, %r2, %r3, %r4}, {%r5, %r6}, {%f0, %f1, %f2, %f3};
  st.global.v4.f32 [%rd3], {%f0, %f1, %f2, %f3}; ret; }",
        "k",
    );
    let (a, b, at) = (upload(&a), upload(&b), upload(&c));
    launch(k, 1, 32, &[a.0, b.0, at.0]);
    let (got, want) = (download::<f32>(at, 128), product(16, 8, 16));
    for lane in 0..32 {
        let (g, t) = (lane / 4, lane % 4 * 2);
        for (number, (row, column)) in [(g, t), (g, t + 1), (g + 8, t), (g + 8, t + 1)].into_iter().enumerate() {
            assert_eq!(got[lane * 4 + number], want[row * 8 + column], "row {row}, column {column}");
        }
    }
}

/// PTX ISA, m8n8k16: a0..3 (g, 4t..), b0..3 (4t.., g), c0,c1 (g, 2t..).
#[test]
fn bytes_are_multiplied_and_added_in_32_bits() {
    let bytes = |at: &dyn Fn(usize) -> f32| (0..4).fold(0u32, |all, i| all | u32::from((at(i) as i8).cast_unsigned()) << (8 * i));
    let (mut a, mut b) = (vec![], vec![]);
    for lane in 0..32usize {
        let (g, t) = (lane / 4, lane % 4 * 4);
        a.push(bytes(&|i| value(g, t + i)));
        b.push(bytes(&|i| value(t + i + 1, g)));
    }
    let gpu = Gpu::new();
    let k = gpu.function(
        ".visible .entry k(.param .u64 a, .param .u64 b, .param .u64 d) {
  .reg .b32 %r<8>; .reg .b64 %rd<4>;
  mov.u32 %r0, %tid.x;
  ld.param.u64 %rd1, [a]; ld.param.u64 %rd2, [b]; ld.param.u64 %rd3, [d];
  mad.wide.u32 %rd1, %r0, 4, %rd1; mad.wide.u32 %rd2, %r0, 4, %rd2; mad.wide.u32 %rd3, %r0, 8, %rd3;
  ld.global.b32 %r1, [%rd1]; ld.global.b32 %r2, [%rd2]; mov.u32 %r3, 0; mov.u32 %r4, 1000;
  mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%r5, %r6}, {%r1}, {%r2}, {%r3, %r4};
  st.global.v2.b32 [%rd3], {%r5, %r6}; ret; }",
        "k",
    );
    let (a, b, d) = (upload(&a), upload(&b), upload(&[0i32; 64]));
    launch(k, 1, 32, &[a.0, b.0, d.0]);
    let got = download::<i32>(d, 64);
    for lane in 0..32 {
        let (row, t) = (lane / 4, lane % 4 * 2);
        for number in 0..2 {
            let column = t + number;
            let want: f32 = (0..16).map(|k| value(row, k) * value(k + 1, column)).sum();
            assert_eq!(got[lane * 2 + number], want as i32 + 1000 * number as i32);
        }
    }
}

#[test]
fn warp_tiles_are_loaded_multiplied_and_stored() {
    let gpu = Gpu::new();
    let k = gpu.function(
        ".visible .entry k(.param .u64 a, .param .u64 b, .param .u64 c, .param .u64 d) {
  .reg .b32 %r<32>; .reg .f32 %f<8>; .reg .b64 %rd<8>;
  ld.param.u64 %rd1, [a]; ld.param.u64 %rd2, [b]; ld.param.u64 %rd3, [c]; ld.param.u64 %rd4, [d];
  mov.u32 %r30, 20;
  wmma.load.a.sync.aligned.row.m16n16k16.global.f16 {%r0,%r1,%r2,%r3,%r4,%r5,%r6,%r7}, [%rd1], %r30;
  wmma.load.b.sync.aligned.col.m16n16k16.global.f16 {%r8,%r9,%r10,%r11,%r12,%r13,%r14,%r15}, [%rd2];
  wmma.load.c.sync.aligned.row.m16n16k16.f32 {%f0,%f1,%f2,%f3,%f4,%f5,%f6,%f7}, [%rd3];
  wmma.mma.sync.aligned.row.col.m16n16k16.f32.f32 {%f0,%f1,%f2,%f3,%f4,%f5,%f6,%f7},
    {%r0,%r1,%r2,%r3,%r4,%r5,%r6,%r7}, {%r8,%r9,%r10,%r11,%r12,%r13,%r14,%r15}, {%f0,%f1,%f2,%f3,%f4,%f5,%f6,%f7};
  wmma.store.d.sync.aligned.col.m16n16k16.global.f32 [%rd4], {%f0,%f1,%f2,%f3,%f4,%f5,%f6,%f7};
  ret; }",
        "k",
    );
    // A's rows are 20 elements apart; B lies column by column, and so does the result.
    let a: Vec<f16> = (0..16 * 20).map(|at| f16::from_f32(value(at / 20, at % 20))).collect();
    let b: Vec<f16> = (0..256).map(|at| f16::from_f32(value(at % 16 + 1, at / 16))).collect();
    let c: Vec<f32> = (0..256).map(|at| (at / 16 + at % 16) as f32).collect();
    let (a, b, c, d) = (upload(&a), upload(&b), upload(&c), upload(&[0f32; 256]));
    launch(k, 1, 32, &[a.0, b.0, c.0, d.0]);
    let (got, want) = (download::<f32>(d, 256), product(16, 16, 16));
    for at in 0..256 {
        assert_eq!(got[at % 16 * 16 + at / 16], want[at], "row {}, column {}", at / 16, at % 16);
    }
}

/// Tiles of numbered elements: what each lane gets says where it came from.
#[test]
fn eights_move_between_shared_memory_and_registers() {
    let gpu = Gpu::new();
    let k = gpu.function(
        ".visible .entry k(.param .u64 out) {
  .reg .b16 %h<3>; .reg .b32 %r<20>; .reg .b64 %rd<3>; .shared .align 16 .b8 tile[512];
  mov.u32 %r0, %tid.x; mov.u32 %r1, tile;
  mad.lo.u32 %r2, %r0, 8, %r1; mul.lo.u32 %r3, %r0, 4;
  add.u32 %r4, %r3, 1; shl.b32 %r4, %r4, 16; or.b32 %r4, %r4, %r3; add.u32 %r5, %r4, 0x20002;
  st.shared.v2.b32 [%r2], {%r4, %r5};
  bar.warp.sync 0xffffffff;
  and.b32 %r6, %r0, 15; mad.lo.u32 %r6, %r6, 16, %r1;
  ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r7, %r8}, [%r6];
  ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%r9}, [%r6];
  movmatrix.sync.aligned.m8n8.trans.b16 %r10, %r7;
  stmatrix.sync.aligned.m8n8.x1.shared.b16 [%r6+256], {%r10};
  bar.warp.sync 0xffffffff;
  ld.shared.b32 %r11, [%r2+256];
  ld.param.u64 %rd1, [out]; mad.wide.u32 %rd1, %r0, 16, %rd1;
  st.global.v4.b32 [%rd1], {%r7, %r8, %r9, %r11}; ret; }",
        "k",
    );
    let out = upload(&[0u32; 128]);
    launch(k, 1, 32, &[out.0]);
    let got = download::<u32>(out, 128);
    let pair = |low: usize, high: usize| (low | high << 16) as u32;
    for lane in 0..32 {
        let (g, t) = (lane / 4, lane % 4 * 2);
        assert_eq!(got[lane * 4], pair(g * 8 + t, g * 8 + t + 1), "first tile");
        assert_eq!(got[lane * 4 + 1], pair(64 + g * 8 + t, 64 + g * 8 + t + 1), "second tile");
        assert_eq!(got[lane * 4 + 2], pair(t * 8 + g, (t + 1) * 8 + g), "transposed");
        if lane < 16 {
            let (row, column) = (lane * 4 / 8, lane * 4 % 8);
            assert_eq!(got[lane * 4 + 3], pair(column * 8 + row, (column + 1) * 8 + row), "stored");
        }
    }
}
