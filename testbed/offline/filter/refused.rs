//! A system that refuses executable pages: the interpreter serves, and says why.

use tapline_filter::compile;
use tapline_filter::{Engine, Filters, SplitFilters};
use tapline_harness::programs::alone;
use tapline_packet::burst::Selection;
use tapline_packet::frame::Frame;

#[test]
fn the_interpreter_serves_where_the_system_refuses_executable_pages() {
    // the process stays so restricted
    alone(
        module_path!(),
        "the_interpreter_serves_where_the_system_refuses_executable_pages",
        refuse_and_select,
    );
}

fn refuse_and_select() {
    // linux/prctl.h: PR_SET_MDWE with PR_MDWE_REFUSE_EXEC_GAIN, Linux 6.3: no page may become executable.
    const PR_SET_MDWE: libc::c_int = 65;
    const REFUSE_EXEC_GAIN: libc::c_ulong = 1;
    // SAFETY: takes plain numbers and restricts this process only.
    if unsafe { libc::prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0u64, 0u64, 0u64) } != 0 {
        tapline_skip::skipped("the kernel cannot refuse executable pages (PR_SET_MDWE)");
        return;
    }
    let programs = [compile("arp").expect("a valid expression")];
    let filters = Filters::build(&programs);
    let Engine::Interpreter { reason } = filters.engine() else {
        panic!("native code despite the refusal")
    };
    assert!(reason.contains("executable"), "{reason}");
    assert!(matches!(SplitFilters::build(&programs).engine(), Engine::Interpreter { .. }));
    let mut arp = [0; 60];
    arp[12..14].copy_from_slice(&[8, 6]);
    let mut selections = [Selection::NONE];
    filters.select(&[Frame::whole(&[0; 60]), Frame::whole(&arp)], &mut selections);
    assert_eq!(selections, [Selection::from_bits(0b10)]);
}
