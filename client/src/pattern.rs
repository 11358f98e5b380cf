//! Patterns that names of guests fit: `*` stands for any characters, `?` for one.

/// Whether `name` fits `pattern`. It takes time in proportion to the product of their lengths, at most.
#[must_use]
pub fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut read) = (0, 0);
    // Behind the last `*`, and how far the name is its: where to go on if what follows does not fit.
    let mut star = None;
    while let Some(&byte) = name.get(read) {
        match (pattern.get(at), star) {
            (Some(b'*'), _) => {
                at += 1;
                star = Some((at, read));
            }
            (Some(&wanted), _) if wanted == b'?' || wanted == byte => {
                at += 1;
                read += 1;
            }
            (_, Some((behind, taken))) => {
                at = behind;
                read = taken + 1;
                star = Some((behind, read));
            }
            (_, None) => return false,
        }
    }
    pattern[at..].iter().all(|&rest| rest == b'*')
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn names_fit_themselves_stars_and_question_marks() {
        for (pattern, name) in [
            ("web-1", "web-1"),
            ("*", "web-1"),
            ("*", ""),
            ("web-*", "web-"),
            ("web-*", "web-12"),
            ("*-12", "web-12"),
            ("w*b*2", "web-12"),
            ("web-?", "web-1"),
            ("?*", "w"),
            ("*a*a*b", "aaaab"),
            ("**", "x"),
        ] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("web-1", "web-12"),
            ("web-?", "web-12"),
            ("web-?", "web-"),
            ("?", ""),
            ("", "web"),
            ("*-1", "web-12"),
            ("w*b*3", "web-12"),
            ("WEB", "web"),
        ] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    /// What the definition says, without going back cleverly.
    fn fits_plainly(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([], name) => name.is_empty(),
            ([b'*', rest @ ..], name) => (0..=name.len()).any(|at| fits_plainly(rest, &name[at..])),
            ([wanted, rest @ ..], [byte, more @ ..]) => {
                (*wanted == b'?' || wanted == byte) && fits_plainly(rest, more)
            }
            (_, []) => false,
        }
    }

    /// Every pattern of up to five characters against every name of up to five.
    #[test]
    fn it_is_what_the_definition_says() {
        let words = |letters: &[u8]| {
            let mut words = vec![Vec::new()];
            let mut from = 0;
            for _ in 0..5 {
                let to = words.len();
                for at in from..to {
                    for &letter in letters {
                        let mut longer: Vec<u8> = words[at].clone();
                        longer.push(letter);
                        words.push(longer);
                    }
                }
                from = to;
            }
            words.into_iter().map(|word| String::from_utf8(word).unwrap()).collect::<Vec<_>>()
        };
        for pattern in words(b"ab*?") {
            for name in words(b"ab") {
                let plain = fits_plainly(pattern.as_bytes(), name.as_bytes());
                assert_eq!(fits(&pattern, &name), plain, "{pattern} {name}");
            }
        }
    }
}
