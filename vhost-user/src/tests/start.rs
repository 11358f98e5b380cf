//! The negotiation: what a guest is offered of what a back end offers, and who is refused.

use super::back_end::{
    BackEnd, CONFIG, EVENT_IDX, FLUSH, INDIRECT, MQ, PROTOCOL, REPLY_ACK, VERSION_1,
};
use super::driver::{Guest, START, parts};
use crate::{Failure, FrontEnd, Parts, Profile};
use denali_abi::virtio::{CONFIG as CONFIG_SPACE, NET_FEATURE_MAC, NET_FEATURE_MTU};
use denali_devices::net::NetConfig;
use denali_devices::virtio::VirtioDevice;
use proptest::prelude::*;
use vhost::vhost_user::message::FrontendReq as Code;
use vm_memory::GuestMemoryMmap;

fn refusal(change: impl FnOnce(&mut BackEnd)) -> Failure {
    let (mut back_end, stream) = BackEnd::new(MQ | CONFIG | REPLY_ACK);
    change(&mut back_end);
    back_end.introduce();
    match FrontEnd::new(parts(stream)) {
        Ok(_) => panic!("the back end was taken"),
        Err(failure) => failure,
    }
}

#[test]
fn a_guest_is_offered_what_both_sides_can_do() {
    for features in [VERSION_1 | PROTOCOL, VERSION_1 | PROTOCOL | EVENT_IDX | FLUSH | 1 << 40] {
        let (mut back_end, stream) = BackEnd::new(CONFIG);
        back_end.features = features;
        back_end.introduce();
        let mut guest = Guest::new(stream);
        let passed_on = VERSION_1 | EVENT_IDX | INDIRECT | FLUSH;
        assert_eq!(guest.offered(), features & passed_on);
        assert_eq!(guest.bus.read(0, CONFIG_SPACE + 8, 1), 8);
        assert_eq!(guest.bus.read(0, CONFIG_SPACE + 60, 4), 0);
    }
}

#[test]
fn a_limit_of_nothing_is_no_limit() {
    const LIMITS: u64 = 1 << 1 | 1 << 2;
    for (size_max, seg_max, offered) in [(0, 0, 0), (4096, 0, 1 << 1), (0, 126, 1 << 2)] {
        let (mut back_end, stream) = BackEnd::new(CONFIG);
        back_end.features |= LIMITS;
        back_end.config[8..16].copy_from_slice(&[size_max, seg_max].map(u32::to_le_bytes).concat());
        back_end.introduce();
        assert_eq!(Guest::new(stream).offered() & LIMITS, offered);
    }
}

#[test]
fn a_back_end_is_told_of_memory_and_queue() {
    for protocol in [CONFIG, CONFIG | REPLY_ACK] {
        let (guest, back_end) = Guest::running(protocol);
        let features = back_end.said(Code::SET_FEATURES);
        assert_eq!(
            features.body,
            (VERSION_1 | EVENT_IDX | INDIRECT | FLUSH | PROTOCOL).to_ne_bytes()
        );
        let table = back_end.said(Code::SET_MEM_TABLE);
        assert_eq!((table.number(0), table.number(8)), (1, START as u32));
        assert_eq!(table.files.len(), 1);
        let host = u64::from_ne_bytes(table.body[24..32].try_into().unwrap());
        assert_eq!(back_end.last(Code::SET_VRING_NUM, 0).number(4), 8);
        assert_eq!(back_end.last(Code::SET_VRING_BASE, 0).number(4), 0);
        let address = &back_end.last(Code::SET_VRING_ADDR, 0).body;
        let address = |at: usize| u64::from_ne_bytes(address[at..at + 8].try_into().unwrap());
        assert_eq!([address(8), address(16), address(24)], [host, host + 0x2000, host + 0x1000]);
        assert_eq!(back_end.kicks(), 1, "it looks at the queue once");
        assert_eq!(guest.counter("disconnects"), 0);
    }
}

#[test]
fn back_ends_that_cannot_do_what_is_needed_are_refused() {
    assert!(
        matches!(refusal(|b| b.features = PROTOCOL), Failure::Lacks(what) if what.contains("virtio 1"))
    );
    assert!(matches!(refusal(|b| b.features = VERSION_1), Failure::Lacks(_)));
    assert!(matches!(refusal(|b| b.protocol = REPLY_ACK), Failure::Lacks(_)));
    assert!(matches!(refusal(|b| b.config.clear()), Failure::Refused("GET_CONFIG")));
    assert!(matches!(refusal(|b| b.config.truncate(59)), Failure::Protocol(_)));
    assert!(matches!(refusal(|b| b.config.push(0)), Failure::Protocol(_)));
}

#[test]
fn a_back_end_that_hangs_up_is_gone() {
    let (back_end, stream) = BackEnd::new(CONFIG);
    drop(back_end);
    assert_eq!(FrontEnd::new(parts(stream)).err(), Some(Failure::Gone));
}

#[test]
fn a_network_card_has_the_addresses_of_its_configuration() {
    let (back_end, stream) = BackEnd::new(MQ);
    back_end.reply(Code::GET_FEATURES, &(VERSION_1 | PROTOCOL | 1 << 15 | 1 << 22).to_ne_bytes());
    back_end.reply(Code::GET_PROTOCOL_FEATURES, &MQ.to_ne_bytes());
    back_end.reply(Code::GET_QUEUE_NUM, &2_u64.to_ne_bytes());
    let net = NetConfig { mac: [2, 0, 0, 0, 0, 9], mtu: 9000 };
    let card = FrontEnd::new(Parts { profile: Profile::Net(net), ..parts(stream) }).unwrap();
    let card: &dyn VirtioDevice<GuestMemoryMmap<()>> = &card;
    assert_eq!(card.config(), [2, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0x28, 0x23]);
    assert_eq!(card.features(), NET_FEATURE_MAC | NET_FEATURE_MTU | 1 << 15);
    assert_eq!(card.queue_sizes().len(), 2);
    let (back_end, stream) = BackEnd::new(MQ);
    back_end.reply(Code::GET_FEATURES, &(VERSION_1 | PROTOCOL).to_ne_bytes());
    back_end.reply(Code::GET_PROTOCOL_FEATURES, &MQ.to_ne_bytes());
    back_end.reply(Code::GET_QUEUE_NUM, &1_u64.to_ne_bytes());
    let one_queue = FrontEnd::new(Parts { profile: Profile::Net(net), ..parts(stream) });
    assert!(matches!(one_queue.err(), Some(Failure::Lacks(_))));
}

proptest! {
    #[test]
    fn whatever_a_back_end_says_is_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (back_end, stream) = BackEnd::new(CONFIG);
        std::io::Write::write_all(&mut &back_end.stream, &bytes).unwrap();
        drop(back_end);
        prop_assert!(FrontEnd::new(parts(stream)).is_err());
    }
}

/// Its back end may touch guest memory at any time, and what that has under way is not known.
#[test]
fn a_device_that_another_process_works_on_is_not_saved() {
    let (mut guest, _back_end) = Guest::running(CONFIG);
    let refused = guest.bus.save(&guest.memory).unwrap_err();
    assert_eq!(refused.to_string(), "device 0 is worked on by another process");
}
