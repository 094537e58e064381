//! stub
use super::Report;
use crate::cli::Common;
impl Report {
    pub fn html(&self, _: &Common) -> String {
        String::new()
    }
}
