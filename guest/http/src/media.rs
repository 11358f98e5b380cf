//! What kind of content a file has, by the end of its name.

/// Ends of names, in lower case, and the media types they stand for.
const TYPES: &[(&str, &str)] = &[
    ("html", "text/html; charset=utf-8"),
    ("htm", "text/html; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("txt", "text/plain; charset=utf-8"),
    ("md", "text/markdown; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("json", "application/json"),
    ("map", "application/json"),
    ("xml", "application/xml"),
    ("pdf", "application/pdf"),
    ("wasm", "application/wasm"),
    ("zip", "application/zip"),
    ("gz", "application/gzip"),
    ("svg", "image/svg+xml"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("avif", "image/avif"),
    ("ico", "image/vnd.microsoft.icon"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("ttf", "font/ttf"),
    ("otf", "font/otf"),
    ("mp3", "audio/mpeg"),
    ("ogg", "audio/ogg"),
    ("wav", "audio/wav"),
    ("mp4", "video/mp4"),
    ("webm", "video/webm"),
];

/// The media type of the file `path`, as `Content-Type` has it.
#[must_use]
pub fn media_type(path: &[u8]) -> &'static str {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let dot = name.iter().rposition(|&byte| byte == b'.').filter(|&dot| dot > 0);
    let end = dot.map_or(&b""[..], |dot| &name[dot + 1..]);
    let known = TYPES.iter().find(|(known, _)| end.eq_ignore_ascii_case(known.as_bytes()));
    known.map_or("application/octet-stream", |(_, media)| media)
}

#[cfg(test)]
mod tests {
    use super::media_type;

    #[test]
    fn the_end_of_the_name_decides() {
        for (path, media) in [
            ("/index.html", "text/html; charset=utf-8"),
            ("/a.b/PHOTO.JPG", "image/jpeg"),
            ("/archive.tar.gz", "application/gzip"),
            ("/a.html/file", "application/octet-stream"),
            ("/.html", "application/octet-stream"),
            ("/html", "application/octet-stream"),
            ("/a.", "application/octet-stream"),
            ("", "application/octet-stream"),
        ] {
            assert_eq!(media_type(path.as_bytes()), media, "{path}");
        }
    }
}
