//! The `Date` header's value, made once per second at most.

/// A moment as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
#[derive(Clone, Debug)]
pub struct HttpDate {
    seconds: u64,
    text: [u8; 29],
}

const WEEKDAYS: &[u8; 21] = b"ThuFriSatSunMonTueWed";
const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
const DAY: u64 = 86_400;

impl HttpDate {
    /// The date `seconds` after 1970-01-01 UTC. Years have four digits.
    #[must_use]
    pub fn new(seconds: u64) -> Self {
        let days = seconds / DAY;
        let (year, month, day) = civil(days);
        let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
        let weekday = (days % 7) as usize * 3;
        text[..3].copy_from_slice(&WEEKDAYS[weekday..weekday + 3]);
        two_digits(&mut text[5..7], day);
        text[8..11].copy_from_slice(&MONTHS[month as usize * 3 - 3..month as usize * 3]);
        two_digits(&mut text[12..14], year / 100);
        two_digits(&mut text[14..16], year % 100);
        two_digits(&mut text[17..19], seconds % DAY / 3600);
        two_digits(&mut text[20..22], seconds % 3600 / 60);
        two_digits(&mut text[23..25], seconds % 60);
        Self { seconds, text }
    }

    /// Brings the date up to `seconds`, if it is of another second.
    pub fn update(&mut self, seconds: u64) {
        if self.seconds != seconds {
            *self = Self::new(seconds);
        }
    }

    /// The text, 29 ASCII characters.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 29] {
        &self.text
    }
}

/// Year, month (1 to 12) and day (1 to 31) of a day counted from 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    // Years are counted from March, so that the leap day comes last; 719,468 days lie between
    // 0000-03-01 and 1970-01-01, and 146,097 make 400 years.
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

fn two_digits(place: &mut [u8], number: u64) {
    place[0] = b'0' + (number / 10 % 10) as u8;
    place[1] = b'0' + (number % 10) as u8;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        let text = |seconds| HttpDate::new(seconds).text;
        assert_eq!(&text(0), b"Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(&text(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(&text(951_782_400), b"Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(&text(951_868_799), b"Tue, 29 Feb 2000 23:59:59 GMT");
        assert_eq!(&text(4_107_542_400), b"Mon, 01 Mar 2100 00:00:00 GMT");
    }
}
