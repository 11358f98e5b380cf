//! Properties of every configuration: nothing panics, and what is valid survives a round trip.

use denali_config::{
    Address, BandwidthConfig, BlockBackendConfig, BlockConfig, ConsoleBackendConfig, ConsoleConfig,
    ConsoleFilesConfig, CpuConfig, Document, EgressConfig, EntropyConfig, FileBackendConfig,
    FileIo, GuestConfig, HypervisorChoice, IdleConfig, InterruptsConfig, KeyConfig, LimitConfig,
    MacAddress, MemorySize, NetBackendConfig, NetConfig, NetLimitConfig, OperationsConfig, Ports,
    Protocol, Publish, Span, Subnet, SwapConfig, SwitchBackendConfig, UserBackendConfig, Window,
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
        Just("egress".to_owned()),
        Just("to".to_owned()),
        Just("ports".to_owned()),
        Just("block".to_owned()),
        Just("file".to_owned()),
        Just("console".to_owned()),
        Just("entropy".to_owned()),
        Just("rate_limit".to_owned()),
        Just("mac".to_owned()),
        Just("address".to_owned()),
        Just("swap".to_owned()),
        Just("stripes".to_owned()),
        Just("limit".to_owned()),
        Just("key".to_owned()),
        Just("resident_limit".to_owned()),
        Just("control".to_owned()),
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
    (address, any::<u16>(), 1..=u16::MAX, protocol()).prop_map(
        |(address, port, guest_port, protocol)| Publish {
            host: SocketAddr::new(address, port),
            guest_port,
            protocol,
        },
    )
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)]
}

fn subnet() -> impl Strategy<Value = Subnet> {
    (any::<u32>(), 1..=30_u8).prop_filter_map("address of a host", |(bits, prefix_len)| {
        format!("{}/{prefix_len}", Ipv4Addr::from(bits)).parse().ok()
    })
}

fn limit() -> impl Strategy<Value = LimitConfig> {
    let bucket = option::of((any::<u64>(), any::<u64>(), any::<u64>()));
    (bucket.clone(), bucket).prop_map(|(bandwidth, ops)| LimitConfig {
        bandwidth: bandwidth.map(|(size, burst, refill_time)| BandwidthConfig {
            size: MemorySize(size),
            one_time_burst: MemorySize(burst),
            refill_time,
        }),
        ops: ops.map(|(size, one_time_burst, refill_time)| OperationsConfig {
            size,
            one_time_burst,
            refill_time,
        }),
    })
}

fn egress() -> impl Strategy<Value = EgressConfig> {
    let to = prop_oneof![
        Just("host".to_owned()),
        "[a-z]{1,9}(\\.[a-z]{2,3}){1,2}",
        "\\*\\.[a-z]{1,9}\\.[a-z]{2,3}",
        any::<u32>().prop_map(|bits| Ipv4Addr::from(bits).to_string()),
        any::<u8>().prop_map(|byte| format!("{byte}.0.0.0/8")),
    ];
    let range = (1..=u16::MAX).prop_flat_map(|first| (Just(first), first..=u16::MAX));
    let protocol = protocol();
    (to, vec(range, 1..4), protocol).prop_map(|(to, ports, protocol)| EgressConfig {
        to: to.parse().unwrap(),
        ports: Ports(ports),
        protocol,
    })
}

fn net_backend() -> impl Strategy<Value = NetBackendConfig> {
    let user = (vec(publish(), 0..4), any::<u64>(), vec(egress(), 0..3)).prop_map(
        |(publish, max_connections, egress)| {
            let resolver = (max_connections % 2 == 0).then(|| "192.0.2.53".parse().unwrap());
            let user = UserBackendConfig { publish, max_connections, egress, resolver };
            NetBackendConfig::User(user)
        },
    );
    prop_oneof![
        user,
        ".{0,9}".prop_map(NetBackendConfig::Tap),
        ".{0,9}".prop_map(NetBackendConfig::VhostUser),
        ".{0,9}".prop_map(NetBackendConfig::Socket),
        (vec(publish(), 0..4), vec(any::<u16>(), 0..4)).prop_map(|(publish, wakes)| {
            NetBackendConfig::Switch(SwitchBackendConfig { publish, wakes })
        }),
    ]
}

fn block() -> impl Strategy<Value = BlockConfig> {
    let io = prop_oneof![Just(FileIo::Auto), Just(FileIo::IoUring), Just(FileIo::Sync)];
    let file = (".{0,9}", any::<bool>(), io).prop_map(|(path, direct, io)| {
        BlockBackendConfig::File(FileBackendConfig { path, direct, io })
    });
    let backend = prop_oneof![file, ".{0,9}".prop_map(BlockBackendConfig::VhostUser)];
    (option::of("[a-z0-9]{1,24}"), any::<bool>(), option::of(limit()), backend).prop_map(
        |(name, read_only, rate_limit, backend)| BlockConfig {
            name,
            read_only,
            rate_limit,
            backend,
        },
    )
}

fn console() -> impl Strategy<Value = ConsoleConfig> {
    let files = (option::of(".{0,9}"), option::of(".{0,9}")).prop_map(|(input, output)| {
        ConsoleBackendConfig::File(ConsoleFilesConfig { input, output })
    });
    let backend = prop_oneof![
        Just(ConsoleBackendConfig::Terminal),
        files,
        ".{0,9}".prop_map(ConsoleBackendConfig::Socket),
    ];
    (option::of("[a-z0-9]{1,24}"), backend)
        .prop_map(|(name, backend)| ConsoleConfig { name, backend })
}

fn entropy() -> impl Strategy<Value = EntropyConfig> {
    (option::of("[a-z0-9]{1,24}"), option::of(limit()))
        .prop_map(|(name, rate_limit)| EntropyConfig { name, rate_limit })
}

fn net() -> impl Strategy<Value = NetConfig> {
    (
        option::of("[a-z0-9]{1,24}"),
        option::of(any::<[u8; 5]>().prop_map(|[a, b, c, d, e]| MacAddress([2, a, b, c, d, e]))),
        any::<u64>(),
        option::of(subnet()),
        option::of(any::<u32>().prop_map(|bits| Address(Ipv4Addr::from(bits)))),
        option::of((option::of(limit()), option::of(limit()))),
        net_backend(),
    )
        .prop_map(|(name, mac, mtu, address, gateway, limits, backend)| NetConfig {
            name,
            mac,
            mtu,
            address,
            gateway,
            rate_limit: limits.map(|(receive, transmit)| NetLimitConfig { receive, transmit }),
            backend,
        })
}

fn cpu() -> impl Strategy<Value = (InterruptsConfig, IdleConfig, CpuConfig)> {
    let span = || any::<u64>().prop_map(Span);
    let window = prop_oneof![Just(Window::Adaptive), span().prop_map(Window::Fixed)];
    let interrupts =
        (window, any::<u64>()).prop_map(|(window, count)| InterruptsConfig { window, count });
    let idle = (any::<bool>(), span(), span()).prop_map(|(sleep, spin, deep_after)| IdleConfig {
        sleep,
        spin,
        deep_after,
    });
    let cpu = (any::<u64>(), span()).prop_map(|(weight, quantum)| CpuConfig { weight, quantum });
    (interrupts, idle, cpu)
}

fn swap() -> impl Strategy<Value = SwapConfig> {
    let span = || any::<u64>().prop_map(Span);
    let size = || any::<u64>().prop_map(MemorySize);
    let key =
        prop_oneof![".{0,9}".prop_map(KeyConfig::File), ".{0,9}".prop_map(KeyConfig::Credential),];
    let sizes = (size(), option::of(size()));
    let times = (span(), span(), span());
    let switches = (any::<bool>(), any::<bool>());
    (vec(".{0,9}", 0..3), sizes, times, switches, option::of(key)).prop_map(
        |(stripes, (unit, limit), (after, park_after, park_horizon), (prefetch, encrypt), key)| {
            SwapConfig {
                stripes,
                unit,
                limit,
                after,
                park_after,
                park_horizon,
                prefetch,
                encrypt,
                reserve: !encrypt,
                key,
            }
        },
    )
}

fn config() -> impl Strategy<Value = GuestConfig> {
    let hypervisor = prop_oneof![
        Just(HypervisorChoice::Auto),
        Just(HypervisorChoice::Kvm),
        Just(HypervisorChoice::Process),
    ];
    let devices =
        (vec(net(), 0..3), vec(block(), 0..3), vec(console(), 0..3), vec(entropy(), 0..2));
    let leaving =
        (option::of(swap()), option::of(any::<u64>().prop_map(MemorySize)), option::of(".{0,9}"));
    (option::of(".{1,9}"), ".{1,9}", any::<u64>(), ".{0,9}", hypervisor, devices, cpu(), leaving)
        .prop_map(
            |(
                name,
                image,
                memory,
                args,
                hypervisor,
                (net, block, console, entropy),
                cpu,
                leaving,
            )| {
                GuestConfig {
                    name,
                    image,
                    memory: MemorySize(memory),
                    args,
                    hypervisor,
                    net,
                    block,
                    console,
                    entropy,
                    interrupts: cpu.0,
                    idle: cpu.1,
                    cpu: cpu.2,
                    swap: leaving.0,
                    resident_limit: leaving.1,
                    control: leaving.2,
                }
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
