//! Properties of every configuration: nothing panics, and what is valid survives a round trip.

use denali_config::{
    Address, BackendConfig, Document, GuestConfig, HypervisorChoice, MacAddress, MemorySize,
    NetConfig, Publish, Subnet, UserBackendConfig,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

fn json() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        Just("image".to_owned()),
        Just("memory".to_owned()),
        Just("net".to_owned()),
        Just("backend".to_owned()),
        Just("user".to_owned()),
        Just("publish".to_owned()),
        Just("mac".to_owned()),
        Just("address".to_owned()),
        ".{0,8}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[0-9a-zA-Z.:/\\[\\]]{0,24}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 40, 4, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((key.clone(), inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn publish() -> impl Strategy<Value = Publish> {
    let address = prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from(bits))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from(bits))),
    ];
    (address, any::<u16>(), 1..=u16::MAX).prop_map(|(address, port, guest_port)| Publish {
        host: SocketAddr::new(address, port),
        guest_port,
    })
}

fn subnet() -> impl Strategy<Value = Subnet> {
    (any::<u32>(), 1..=30_u8).prop_filter_map("address of a host", |(bits, prefix_len)| {
        format!("{}/{prefix_len}", Ipv4Addr::from(bits)).parse().ok()
    })
}

fn net() -> impl Strategy<Value = NetConfig> {
    (
        option::of("[a-z0-9]{1,24}"),
        option::of(any::<[u8; 5]>().prop_map(|[a, b, c, d, e]| MacAddress([2, a, b, c, d, e]))),
        any::<u64>(),
        option::of(subnet()),
        option::of(any::<u32>().prop_map(|bits| Address(Ipv4Addr::from(bits)))),
        vec(publish(), 0..4),
        any::<u64>(),
    )
        .prop_map(|(name, mac, mtu, address, gateway, publish, max_connections)| NetConfig {
            name,
            mac,
            mtu,
            address,
            gateway,
            backend: BackendConfig::User(UserBackendConfig { publish, max_connections }),
        })
}

fn config() -> impl Strategy<Value = GuestConfig> {
    let hypervisor = prop_oneof![
        Just(HypervisorChoice::Auto),
        Just(HypervisorChoice::Kvm),
        Just(HypervisorChoice::Process),
    ];
    (option::of(".{1,9}"), ".{1,9}", any::<u64>(), ".{0,9}", hypervisor, vec(net(), 0..3)).prop_map(
        |(name, image, memory, args, hypervisor, net)| GuestConfig {
            name,
            image,
            memory: MemorySize(memory),
            args,
            hypervisor,
            net,
        },
    )
}

fn assert_no_panic(text: &[u8]) -> Result<(), TestCaseError> {
    let result = Document::parse(text, "vm.json", "".into()).and_then(|document| document.guest());
    if let Err(error) = result {
        let message = error.to_string();
        prop_assert!(!message.chars().any(char::is_control), "{:?}", message);
    }
    Ok(())
}

proptest! {
    #[test]
    fn arbitrary_json_gives_a_guest_or_one_line(value in json()) {
        assert_no_panic(value.to_string().as_bytes())?;
        if value.is_object() {
            let mut named = value;
            named["image"] = "web".into();
            assert_no_panic(named.to_string().as_bytes())?;
        }
    }

    #[test]
    fn arbitrary_bytes_give_one_line(bytes in vec(any::<u8>(), 0..100)) {
        assert_no_panic(&bytes)?;
    }

    #[test]
    fn a_configuration_survives_writing_and_reading(config in config()) {
        let text = serde_json::to_vec(&config).unwrap();
        let document = Document::parse(&text, "vm.json", "".into()).unwrap();
        prop_assert_eq!(document.config().unwrap(), config);
    }
}
