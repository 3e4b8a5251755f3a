//! The header names that the engine itself asks for, recognised while a head is parsed.

macro_rules! known {
    ($($variant:ident = $name:literal,)*) => {
        /// A header that the engine or its handlers look up on every request. RFC 9110 section 5.1.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[expect(missing_docs, reason = "each variant is the header of its name")]
        pub enum Known { $($variant,)* }

        impl Known {
            /// Every known header, in the order of their discriminants.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name as the RFCs write it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

known! {
    Accept = "Accept",
    AcceptEncoding = "Accept-Encoding",
    AcceptLanguage = "Accept-Language",
    Authorization = "Authorization",
    CacheControl = "Cache-Control",
    Connection = "Connection",
    ContentEncoding = "Content-Encoding",
    ContentLength = "Content-Length",
    ContentRange = "Content-Range",
    ContentType = "Content-Type",
    Cookie = "Cookie",
    Expect = "Expect",
    Forwarded = "Forwarded",
    Host = "Host",
    IfMatch = "If-Match",
    IfModifiedSince = "If-Modified-Since",
    IfNoneMatch = "If-None-Match",
    IfRange = "If-Range",
    IfUnmodifiedSince = "If-Unmodified-Since",
    KeepAlive = "Keep-Alive",
    MaxForwards = "Max-Forwards",
    Origin = "Origin",
    Proxy = "Proxy",
    ProxyAuthorization = "Proxy-Authorization",
    ProxyConnection = "Proxy-Connection",
    Range = "Range",
    Referer = "Referer",
    Te = "TE",
    Trailer = "Trailer",
    TransferEncoding = "Transfer-Encoding",
    Upgrade = "Upgrade",
    UserAgent = "User-Agent",
    Via = "Via",
    XForwardedFor = "X-Forwarded-For",
    XForwardedHost = "X-Forwarded-Host",
    XForwardedProto = "X-Forwarded-Proto",
}

impl Known {
    /// How many there are: the length of a table with one entry for each.
    pub const COUNT: usize = Self::ALL.len();

    /// The known header of that name, in any case.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        // The length leaves at most five candidates, so that no name is compared with the whole
        // list.
        let candidates: &[Self] = match name.len() {
            2 => &[Self::Te],
            3 => &[Self::Via],
            4 => &[Self::Host],
            5 => &[Self::Range, Self::Proxy],
            6 => &[Self::Accept, Self::Cookie, Self::Origin, Self::Expect],
            7 => &[Self::Referer, Self::Upgrade, Self::Trailer],
            8 => &[Self::IfRange, Self::IfMatch],
            9 => &[Self::Forwarded],
            10 => &[Self::Connection, Self::UserAgent, Self::KeepAlive],
            12 => &[Self::ContentType, Self::MaxForwards],
            13 => &[Self::IfNoneMatch, Self::CacheControl, Self::Authorization, Self::ContentRange],
            14 => &[Self::ContentLength],
            15 => &[Self::AcceptEncoding, Self::AcceptLanguage, Self::XForwardedFor],
            16 => &[Self::ContentEncoding, Self::ProxyConnection, Self::XForwardedHost],
            17 => &[Self::IfModifiedSince, Self::TransferEncoding, Self::XForwardedProto],
            19 => &[Self::IfUnmodifiedSince, Self::ProxyAuthorization],
            _ => return None,
        };
        candidates.iter().copied().find(|known| known.name().as_bytes().eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_case_and_no_other() {
        for (index, &known) in Known::ALL.iter().enumerate() {
            assert_eq!(known as usize, index);
            for name in
                [known.name().to_owned(), known.name().to_lowercase(), known.name().to_uppercase()]
            {
                assert_eq!(Known::from_name(name.as_bytes()), Some(known), "{name}");
            }
            assert_eq!(Known::from_name(format!("{}x", known.name()).as_bytes()), None);
        }
        assert_eq!(Known::from_name(b""), None);
        assert_eq!(Known::from_name(b"X_Forwarded_For"), None, "an underscore is no hyphen");
    }
}
