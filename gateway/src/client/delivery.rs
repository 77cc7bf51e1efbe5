//! A delivery to the public listener, as Slack would make it: what the demo sends instead of a person in a channel.
//!
//! It stands beside the admin client because this is where the command line speaks HTTP; the request itself comes from
//! [`crate::stand_in::requests`], signed.

use std::net::SocketAddr;

use reqwest::header;

use super::{Client, Error};
use crate::stand_in::requests::SignedRequest;

impl Client {
    /// Posts a signed request to the public listener at `public` and answers the status.
    pub async fn deliver(&self, public: SocketAddr, signed: &SignedRequest) -> Result<u16, Error> {
        let url = format!("http://{public}");
        let mut request = self.http.post(format!("{url}{}", signed.path)).header(header::ACCEPT, "*/*");
        for (name, value) in &signed.headers {
            request = request.header(*name, value);
        }
        let limit = self.options.timeout;
        let response = request.body(signed.body.clone()).timeout(limit).send().await;
        response.map(|response| response.status().as_u16()).map_err(|error| self.failed(&error, limit))
    }
}
