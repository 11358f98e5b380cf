//! Whether what came is the right answer.

/// Most bytes of an answer.
const ANSWER_MAX: usize = 1 << 20;

/// What has come so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// There is more to come.
    Part,
    /// It is all there and right; whether the server keeps the connection.
    Right {
        /// It does.
        keeps: bool,
    },
    /// Its status is not 200.
    Status,
    /// It is somebody else's page.
    Page,
    /// It is no answer that this program understands.
    Malformed,
}

/// Judges an answer that is to show this text in its body.
pub(super) fn judge(answer: &[u8], shows: &[u8]) -> Judged {
    let Some(end) = find(answer, b"\r\n\r\n") else {
        return if answer.len() > ANSWER_MAX { Judged::Malformed } else { Judged::Part };
    };
    let (head, body) = (&answer[..end], &answer[end + 4..]);
    if !head.starts_with(b"HTTP/1.1 200") {
        return if head.starts_with(b"HTTP/1.") { Judged::Status } else { Judged::Malformed };
    }
    let length = field(head, b"content-length").and_then(|text| text.parse().ok());
    match length {
        Some(length) if length > ANSWER_MAX => Judged::Malformed,
        None => Judged::Malformed,
        Some(length) if body.len() < length => Judged::Part,
        Some(length) if body.len() > length => Judged::Malformed,
        Some(_) if find(body, shows).is_none() => Judged::Page,
        Some(_) => {
            let closes =
                field(head, b"connection").is_some_and(|it| it.eq_ignore_ascii_case("close"));
            Judged::Right { keeps: !closes }
        }
    }
}

/// The value of a field of the head, whose name is given in small letters.
fn field<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a str> {
    let lines = head.split(|&byte| byte == b'\n');
    let value = lines.filter_map(|line| {
        let (found, rest) = line.split_at_checked(name.len())?;
        (found.eq_ignore_ascii_case(name) && rest.first() == Some(&b':')).then(|| &rest[1..])
    });
    std::str::from_utf8(value.into_iter().next()?).ok().map(str::trim)
}

/// Where a text begins in another.
fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = wanted.first()?;
    let mut from = 0;
    while let Some(place) = text[from..].iter().position(|byte| byte == first) {
        if text[from + place..].starts_with(wanted) {
            return Some(from + place);
        }
        from += place + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nServer: x\r\nCONTENT-length: 9\r\n\r\n<b>17</b>";

    #[test]
    fn an_answer_is_right_when_it_is_whole_and_shows_what_it_is_to() {
        assert_eq!(judge(ANSWER, b">17<"), Judged::Right { keeps: true });
        assert_eq!(judge(ANSWER, b">1<"), Judged::Page);
        for length in 0..ANSWER.len() {
            assert_eq!(judge(&ANSWER[..length], b">17<"), Judged::Part, "{length}");
        }
        let closed = b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 1\r\n\r\n7";
        assert_eq!(judge(closed, b"7"), Judged::Right { keeps: false });
    }

    #[test]
    fn what_is_no_answer_is_told_apart() {
        assert_eq!(judge(b"HTTP/1.1 503 No\r\n\r\n", b"1"), Judged::Status);
        for text in [
            &b"SSH-2.0-x\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n22",
        ] {
            assert_eq!(judge(text, b"2"), Judged::Malformed, "{}", String::from_utf8_lossy(text));
        }
        assert_eq!(judge(&vec![b'x'; ANSWER_MAX + 1], b"1"), Judged::Malformed);
    }

    #[test]
    fn texts_are_found_where_they_are() {
        assert_eq!(find(b"aab", b"ab"), Some(1));
        assert_eq!(find(b"aab", b"b"), Some(2));
        assert_eq!((find(b"aab", b"abc"), find(b"", b"a")), (None, None));
    }
}
