//! The web page: files of this program, as they are, for browsers. I/O: it answers requests.
//!
//! They are scripts that a browser runs as they stand: nothing is built, and nothing is loaded from elsewhere. `live`
//! tells them what there is.

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::routing::get;

use super::api::Api;

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Path, type and content.
pub(super) const FILES: [(&str, &str, &str); 12] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/page/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ("/page/page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("/page/page.js", SCRIPT, include_str!("page/page.js")),
    ("/page/access.js", SCRIPT, include_str!("page/access.js")),
    ("/page/dom.js", SCRIPT, include_str!("page/dom.js")),
    ("/page/format.js", SCRIPT, include_str!("page/format.js")),
    ("/page/headline.js", SCRIPT, include_str!("page/headline.js")),
    ("/page/node.js", SCRIPT, include_str!("page/node.js")),
    ("/page/rates.js", SCRIPT, include_str!("page/rates.js")),
    ("/page/services.js", SCRIPT, include_str!("page/services.js")),
    ("/page/spark.js", SCRIPT, include_str!("page/spark.js")),
];

/// A route for each.
pub(super) fn routes() -> Router<Api> {
    FILES.into_iter().fold(Router::new(), |router, (path, kind, content)| {
        // An upgrade is seen at once; all of it is smaller than a picture.
        let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")];
        router.route(path, get(move || async move { (headers, content) }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The policy that forbids what is written into a page would refuse it, and nobody would see why.
    #[test]
    fn nothing_is_written_into_the_page_and_nothing_comes_from_elsewhere() {
        let html = FILES[0].2;
        for forbidden in [" style=", "<style", " onclick=", " onload=", "javascript:"] {
            assert!(!html.contains(forbidden), "{forbidden}");
        }
        assert_eq!(html.matches("<script").count(), html.matches("src=\"/page/page.js\"").count());
        for (path, _, content) in FILES {
            // The name of SVG's elements is no address.
            let content = content.replace("http://www.w3.org/2000/svg", "");
            for forbidden in ["http:", "https:", "//cdn", "@import", "url("] {
                assert!(!content.contains(forbidden), "{path}: {forbidden}");
            }
            for forbidden in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
            {
                assert!(!content.contains(forbidden), "{path}: {forbidden}");
            }
        }
    }

    /// What a script imports is there, and so is what the page links to.
    #[test]
    fn every_file_that_is_named_is_served() {
        for (path, _, content) in FILES {
            let imports = content.split(" from \"./").skip(1).map(|rest| format!("/page/{rest}"));
            let links = content.split("=\"/page/").skip(1).map(|rest| format!("/page/{rest}"));
            for named in imports.chain(links) {
                let named = named.split('"').next().unwrap_or_default();
                assert!(FILES.iter().any(|file| file.0 == named), "{path}: {named}");
            }
        }
    }
}
