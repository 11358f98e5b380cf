//! Dates as HTTP writes them: the `Date` header's value, made once per second at most, and those of clients.

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

    /// The seconds after 1970-01-01 UTC that a date of a header field says, in any of the three forms
    /// that RFC 9110, section 5.6.7, has; `None` for others, and for dates before 1970.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<u64> {
        let text = str::from_utf8(text).ok()?.trim();
        let mut words = text.split([' ', ',', '-']).filter(|word| !word.is_empty()).skip(1);
        let mut next = || words.next();
        let (first, second, third) = (next()?, next()?, next()?);
        let (month, day, year, time) = if first.starts_with(|letter: char| letter.is_alphabetic()) {
            // Sun Nov  6 08:49:37 1994
            (first, second, next()?, third)
        } else {
            // Sun, 06 Nov 1994 08:49:37 GMT; Sunday, 06-Nov-94 08:49:37 GMT
            let time = next()?;
            if next()? != "GMT" {
                return None;
            }
            (second, first, third, time)
        };
        if words.next().is_some() {
            return None;
        }
        let month = MONTHS.chunks_exact(3).position(|name| name == month.as_bytes())? as u64 + 1;
        let day = number(day, 31).filter(|&day| day > 0)?;
        let seconds = time_of_day(time)?;
        Some(days(full_year(year)?, month, day)?.checked_mul(DAY)? + seconds)
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

/// Days from 1970-01-01 to a date; the inverse of `civil`.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year - 1 } else { year };
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let leap_days = year / 4 - year / 100 + year / 400;
    (365 * year + leap_days + day_of_year).checked_sub(719_468)
}

/// A decimal number of one to four digits, at most `most`.
fn number(digits: &str, most: u64) -> Option<u64> {
    let sound = (1..=4).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|&number| sound && number <= most)
}

/// A year; of two digits, one from 1970 to 2069.
fn full_year(digits: &str) -> Option<u64> {
    let year = number(digits, 9999)?;
    match digits.len() {
        2 if year < 70 => Some(2000 + year),
        2 => Some(1900 + year),
        4 if year >= 1970 => Some(year),
        _ => None,
    }
}

/// Seconds of `08:49:37`; a leap second counts as the one before.
fn time_of_day(time: &str) -> Option<u64> {
    let mut parts = time.split(':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next()?);
    let two = [hours, minutes, seconds].iter().all(|part| part.len() == 2);
    if !two || parts.next().is_some() {
        return None;
    }
    Some(number(hours, 23)? * 3600 + number(minutes, 59)? * 60 + number(seconds, 60)?.min(59))
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

    #[test]
    fn all_three_forms_are_understood() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(HttpDate::parse(text.as_bytes()), Some(784_111_777), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 32 Nov 1994 08:49:37 GMT",
            "Sun, 06 Now 1994 08:49:37 GMT",
            "Sun, 06 Nov 1969 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "\u{ff}",
        ] {
            assert_eq!(HttpDate::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        for seconds in (0..8_000_000_000).step_by(7_654_321) {
            assert_eq!(HttpDate::parse(HttpDate::new(seconds).as_bytes()), Some(seconds));
        }
    }
}
