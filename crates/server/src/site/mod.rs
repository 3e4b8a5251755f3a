//! Sites and their routes, as requests find them.
#![allow(dead_code)]
