//! The header names that the engine itself asks for, recognised while a head is parsed.

use super::field::same_name;

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

    /// The known header of that name, a token in any case.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        macro_rules! one_of {
            ($($known:ident)*) => {{
                $(if same_name(Self::$known.name().as_bytes(), name) {
                    return Some(Self::$known);
                })*
                None
            }};
        }
        // The length leaves at most five candidates, so that no name is compared with the whole
        // list.
        match name.len() {
            2 => one_of!(Te),
            3 => one_of!(Via),
            4 => one_of!(Host),
            5 => one_of!(Range Proxy),
            6 => one_of!(Accept Cookie Origin Expect),
            7 => one_of!(Referer Upgrade Trailer),
            8 => one_of!(IfRange IfMatch),
            9 => one_of!(Forwarded),
            10 => one_of!(Connection UserAgent KeepAlive),
            12 => one_of!(ContentType MaxForwards),
            13 => one_of!(IfNoneMatch CacheControl Authorization ContentRange),
            14 => one_of!(ContentLength),
            15 => one_of!(AcceptEncoding AcceptLanguage XForwardedFor),
            16 => one_of!(ContentEncoding ProxyConnection XForwardedHost),
            17 => one_of!(IfModifiedSince TransferEncoding XForwardedProto),
            19 => one_of!(IfUnmodifiedSince ProxyAuthorization),
            _ => None,
        }
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
