//! What is taken for a state, and where it can be restored.

use super::*;
use proptest::prelude::*;

const MASK: u32 = 0xffff;

fn from_json(text: &str) -> Result<VcpuState, serde_json::Error> {
    serde_json::from_str(text)
}

#[test]
fn this_processor_has_the_bits_every_processor_has() {
    assert_eq!(mxcsr_mask() & 0xffbf, 0xffbf);
}

#[test]
fn a_state_comes_back_from_text() {
    let state = VcpuState {
        registers: Registers { gpr: [u64::MAX; 16], rip: 0x20_0000, rflags: 2 },
        fs_base: u64::MAX,
        gs_base: 7,
        trap: true,
        components: 0xe7,
        extended: ExtendedState::default(),
    };
    let text = serde_json::to_string(&state).unwrap();
    assert!(text.len() < 1500, "{}", text.len());
    assert_eq!(from_json(&text).unwrap(), state);
    assert!(from_json(&text.replacen("trap", "trip", 1)).is_err(), "unknown fields");
    assert!(from_json(&text.replacen("legacy", "elegy", 1)).is_err());
    assert!(from_json(&text.replacen("rip", "rap", 1)).is_err());
}

#[test]
fn a_processor_must_have_what_the_guest_has_seen() {
    let state = VcpuState { components: 0xe7, ..VcpuState::default() };
    assert_eq!(state.check(0xe7, MASK), Ok(()));
    assert_eq!(state.check(0x2e7, MASK), Ok(()));
    let error = state.check(0x7, MASK).unwrap_err();
    assert_eq!(error, StateError::Lacks("AVX-512"));
    let told = crate::Error::from(error).to_string();
    assert!(told.starts_with("the saved state needs AVX-512, which this processor does not have"));
    assert_eq!(state.check(0x3, MASK), Err(StateError::Lacks("AVX")));
    let keys = VcpuState { components: 0x207, ..VcpuState::default() };
    assert_eq!(keys.check(0xe7, MASK), Err(StateError::Lacks("protection keys")));
    let strange = VcpuState { components: 1 << 40, ..VcpuState::default() };
    assert_eq!(strange.check(0xe7, MASK), Err(StateError::Lacks("an unknown kind of registers")));
    assert_eq!(VcpuState::default().check(0, 0xffbf), Ok(()), "x87 and SSE are everywhere");
}

#[test]
fn registers_of_a_component_need_the_component() {
    let text = serde_json::to_string(&VcpuState::default()).unwrap();
    let part = format!(r#""parts":[{{"component":2,"bytes":"{}"}}]"#, "00".repeat(256));
    let mut state = from_json(&text.replace(r#""parts":[]"#, &part)).unwrap();
    assert_eq!(state.check(u64::MAX, MASK), Err(StateError::Contradiction));
    state.components = 7;
    assert_eq!(state.check(u64::MAX, MASK), Ok(()));
}

#[test]
fn segment_bases_are_canonical() {
    for sound in [0, 1 << 46, 0x7fff_ffff_ffff, 0xffff_8000_0000_0000, u64::MAX] {
        let state = VcpuState { gs_base: sound, ..VcpuState::default() };
        assert_eq!(state.check(0, MASK), Ok(()));
    }
    for bad in [1 << 47, 0xffff_7fff_ffff_ffff, 1 << 63] {
        let state = VcpuState { fs_base: bad, ..VcpuState::default() };
        assert_eq!(state.check(0, MASK), Err(StateError::Base(bad)));
    }
}

proptest! {
    #[test]
    fn any_state_is_judged(
        fs_base in any::<u64>(),
        components in any::<u64>(),
        part in prop::option::of((any::<u32>(), prop::collection::vec(any::<u8>(), 0..300))),
        available in any::<u64>(),
    ) {
        let parts = part.map(|(component, bytes)| extended::Part { component: component % 70, bytes });
        let extended = ExtendedState::new(vec![0; 416], parts.into_iter().collect());
        let state = VcpuState { fs_base, components, extended, ..VcpuState::default() };
        if state.check(available, MASK).is_ok() {
            let layout = Layout::of_host();
            let mut area = vec![0; 4096];
            if state.extended.components() & !layout.components() == 0 {
                prop_assert!(layout.put_together(&state.extended, u64::MAX, &mut area).is_some());
            }
        }
    }
}
