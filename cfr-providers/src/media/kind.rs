//! What bytes are, by how they begin: what a server says of them proves nothing.

/// What may be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// A picture: PNG, JPEG, GIF or WebP.
    Image,
    /// A document: PDF.
    Pdf,
}

impl MediaKind {
    /// The media type of bytes that are of this kind, by how they begin.
    #[must_use]
    pub fn media_type(self, bytes: &[u8]) -> Option<&'static str> {
        match self {
            Self::Image => picture(bytes),
            Self::Pdf => bytes.starts_with(b"%PDF-").then_some("application/pdf"),
        }
    }

    /// Whether a server that says this of an answer may be sending this kind; many say nothing better than "bytes".
    #[must_use]
    pub fn may_be(self, content_type: &str) -> bool {
        let said = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match said.as_str() {
            "" | "application/octet-stream" | "binary/octet-stream" => true,
            said => match self {
                Self::Image => said.starts_with("image/"),
                Self::Pdf => matches!(said, "application/pdf" | "application/x-pdf"),
            },
        }
    }

    /// The field in which OpenAI's clients give it.
    pub(super) const fn field(self) -> &'static str {
        match self {
            Self::Image => "image_url",
            Self::Pdf => "file",
        }
    }

    pub(super) const fn described(self) -> &'static str {
        match self {
            Self::Image => "a picture in PNG, JPEG, GIF or WebP",
            Self::Pdf => "a PDF",
        }
    }
}

fn picture(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_their_first_bytes() {
        for (bytes, picture, document) in [
            (&b"\x89PNG\r\n\x1a\n...."[..], Some("image/png"), None),
            (b"\xff\xd8\xff\xe0", Some("image/jpeg"), None),
            (b"GIF89a", Some("image/gif"), None),
            (b"RIFF\0\0\0\0WEBPVP8 ", Some("image/webp"), None),
            (b"RIFF\0\0\0\0WAVE", None, None),
            (b"%PDF-1.7", None, Some("application/pdf")),
            (b"<svg xmlns=", None, None),
            (b"", None, None),
        ] {
            assert_eq!(MediaKind::Image.media_type(bytes), picture, "{bytes:?}");
            assert_eq!(MediaKind::Pdf.media_type(bytes), document, "{bytes:?}");
        }
    }

    #[test]
    fn what_a_server_says_can_only_rule_out() {
        assert!(MediaKind::Image.may_be("Image/PNG; charset=x") && MediaKind::Image.may_be(""));
        assert!(MediaKind::Pdf.may_be("application/octet-stream") && MediaKind::Pdf.may_be("application/pdf"));
        assert!(!MediaKind::Image.may_be("text/html") && !MediaKind::Pdf.may_be("image/png"));
    }
}
