//! The reader on texts that a compiler would write, and on texts that nobody should.

use super::ast::{Linkage, Named, Operand, Scope};
use super::parse;
use proptest::prelude::*;

const KERNEL: &str = r#"
.version 8.3
.target sm_80, debug
.address_size 64
.file 1 "a.cu"
.global .align 8 .u64 table[2] = {generic(other)+8, 0x10};
.visible .global .align 4 .f32 other = 0f3F800000;
.extern .shared .align 16 .b8 dynamic[];
.visible .entry scale(.param .u64 .ptr .global .align 4 scale_p0, .param .align 4 .b8 scale_p1[12])
.maxntid 128, 2, 1
{
  .reg .pred %p<2>;
  .reg .b32 %r<4>;
  .reg .b64 %rd<3>;
  .loc 1 3 5
  ld.param.u64 %rd1, [scale_p0];
  mov.u32 %r1, %tid.x; // a comment
  setp.ge.u32 %p1, %r1, 64;
  @!%p1 bra $L_end;
  { .reg .b32 %inner; mov.b32 %inner, -1; add.s32 %r2, %inner, %r1; }
  st.global.v2.b32 [%rd1+-8], {%r2, %r3};
$L_end:
  ret;
}
"#;

#[test]
fn a_module_is_read_whole() {
    let modules = parse(KERNEL).unwrap();
    let [module] = modules.as_slice() else { panic!("one module") };
    assert_eq!((module.version, module.target), (83, 80));
    assert_eq!(module.variables.len(), 3);
    assert_eq!(module.variables[0].size, 16);
    assert_eq!(module.variables[0].init.len(), 2);
    assert!(module.variables[2].linkage == Linkage::Extern && module.variables[2].size == 0);
    let kernel = &module.functions[0];
    assert_eq!((kernel.name, kernel.params.len(), kernel.max_threads), ("scale", 2, Some(256)));
    let body = kernel.body.as_ref().unwrap();
    assert_eq!(body.instructions.len(), 8);
    assert_eq!(body.instructions[0].line, 16);
    assert!(body.instructions[3].guard.unwrap().1);
    assert!(matches!(body.lookup(Scope(0), "$L_end"), Some(Named::Label(7))));
    let Operand::Address(_, offset) = &body.instructions[6].operands[0] else { panic!("no address") };
    assert_eq!(*offset, -8);
}

#[test]
fn errors_name_the_line_and_what_is_wrong() {
    for (text, line, what) in [
        (".version 8.0\n.target sm_80\n.visible .entry k() { add.s32 %r1, %r1, 1; }", 3, "`%r1` is not declared"),
        (".version 8.0\n.target sm_80\n.visible .entry k() { ret }", 3, "operand"),
        (".version 8.0\n.address_size 32", 2, "64"),
        (".version 8.0\n\n.bogus x;", 3, ".bogus"),
        (".version 8.0\n.entry k() {", 2, "statement"),
        (".target sm_80", 1, ".version"),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.line, line, "{error}");
        assert!(error.what.contains(what), "{error}");
    }
}

#[test]
fn every_truncation_is_an_error_or_a_shorter_module() {
    for end in 0..KERNEL.len() {
        if let Ok(modules) = parse(&KERNEL[..end]) {
            assert!(modules.iter().all(|module| module.functions.is_empty()) || KERNEL[end..].trim().is_empty());
        }
    }
}

proptest! {
    /// No text makes the reader panic or hang.
    #[test]
    fn any_text_is_answered(text in "[ -~\n]{0,200}") {
        let _ = parse(&text);
        let _ = parse(&format!(".version 8.0\n.target sm_80\n.entry k() {{ .reg .b32 %r<4>; {text} }}"));
    }
}
