//! What is measured, of a fleet of nothing but loopback addresses.

use super::*;
use crate::fleet::local::Local;
use crate::fleet::text;
use crate::options::CommonOptions;

struct Addresses {
    local: Local,
    count: u32,
    wakes: u64,
}

impl Fleet for Addresses {
    fn start_all(&mut self) -> Result<Vec<Target>> {
        Ok(self.local.targets(self.count))
    }

    fn wakes(&mut self) -> Result<u64> {
        self.wakes += 30;
        Ok(self.wakes)
    }

    fn awake(&mut self) -> Result<u64> {
        Ok(self.count.into())
    }

    fn processes_kib(&mut self) -> Result<f64> {
        Ok(f64::from(self.count) * 3.0)
    }
}

fn options() -> FleetOptions {
    FleetOptions {
        common: CommonOptions { json: true, no_write: true, hypervisor: None },
        guests: 200,
        registered: None,
        awake: None,
        alpha: vec![0.8],
        few: 20,
        seconds: 1,
        park_after: String::new(),
        configuration: None,
        template: None,
        from_image: true,
        shows: String::new(),
        driver: DriverOptions { threads: 1, timeout: 5000, in_flight: 4000, keep_alive: false },
    }
}

#[test]
fn all_figures_of_a_fleet_are_there() {
    let options = options();
    let ms = Duration::from_millis;
    let course =
        Course { probe: ms(150), warm: ms(20), rest: ms(20), length: ms(500), memory: || Ok(7.0) };
    let mut figures = Figures::default();
    text::declare(&options, &mut figures);
    let mut made = Vec::new();
    let make = |count, awake| {
        made.push((count, awake));
        Ok(Addresses { local: Local::start()?, count, wakes: 0 })
    };
    measure(make, &options, course, &mut figures).unwrap();
    assert_eq!(made, [(20, 20), (200, 200)]);
    let json = text::json(&figures, &options);
    let fleet = json["fleet"].as_object().unwrap();
    let lacking: Vec<_> = fleet.iter().filter(|(_, value)| value.is_null()).collect();
    assert!(lacking.is_empty(), "{lacking:?}");
    let of = |name: &str| fleet[name].as_f64().unwrap();
    assert_eq!(
        [of("guests"), of("answered"), of("answered_after"), of("errors_page")],
        [200.0, 200.0, 200.0, 0.0]
    );
    assert_eq!([of("host_kib_per_guest"), of("process_kib_per_guest")], [0.0, 3.0]);
    assert!(of("saturation_per_s") > 0.0 && of("throughput_ratio_to_100") > 0.0);
    assert!(of("p50_ms") <= of("p99_ms") && of("p99_ms") <= of("p999_ms"));
    assert!(of("wakes_per_s") > 1.0 && of("distinct") > 2.0);
    let text = text::document(&figures, &options);
    assert!(text.contains("| goal |") && text.contains("≤ 10 |"), "{text}");
}

#[test]
fn who_never_answers_is_counted_as_silent() {
    let local = Local::start().unwrap();
    let mut targets = local.targets(50);
    targets[7].shows = "another one's page".into();
    let answered = sweep(&targets, options().driver, Duration::ZERO).unwrap();
    assert_eq!(answered, 49);
}
