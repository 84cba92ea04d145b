//! The proxy for a request, from the same environment variables as curl.
//!
//! Source: <https://curl.se/docs/manpage.html>, "Environment", and <https://curl.se/docs/manpage.html#--noproxy>.

use std::net::IpAddr;

use ureq::ProxyProtocol;
use ureq::http::Uri;

/// A proxy, and the variable that names it.
pub(super) struct Named {
    pub(super) proxy: ureq::Proxy,
    /// "http://proxy:3128 (https_proxy)", without its password.
    pub(super) shown: String,
}

/// The proxy for an address; `None` for a direct connection.
///
/// # Errors
/// What is wrong with the variable that names the proxy.
pub(super) fn choose(address: &Uri, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Named>, String> {
    // An empty variable counts as unset.
    let set = |name: &&'static str| Some((*name, variable(name).filter(|value| !value.trim().is_empty())?));
    let names: &[&str] = match address.scheme_str() {
        Some("https") => &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
        // Not HTTP_PROXY: a web server sets it for its programs from a request's `Proxy` header.
        _ => &["http_proxy", "all_proxy", "ALL_PROXY"],
    };
    let Some((name, value)) = names.iter().find_map(set) else { return Ok(None) };
    let exceptions = ["no_proxy", "NO_PROXY"].iter().find_map(set);
    if exceptions.is_some_and(|(_, list)| is_exception(address, &list)) {
        return Ok(None);
    }
    let value = value.trim();
    let host = value.rsplit_once('@').map_or(value, |(_, host)| host);
    match ureq::Proxy::new(value) {
        Ok(proxy) if matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https) => {
            let scheme = if proxy.protocol() == ProxyProtocol::Https { "https" } else { "http" };
            let shown = format!("{scheme}://{}:{} ({name})", proxy.host(), proxy.port());
            Ok(Some(Named { proxy, shown }))
        }
        Ok(_) => Err(format!("{name} is a SOCKS proxy ({host}), but only HTTP proxies are supported: set it to one")),
        Err(_) => Err(format!("{name} is not a proxy ({host}): write it as http://HOST:PORT, or unset it")),
    }
}

/// Whether a list such as `localhost, .example.org, 10.0.0.0/8` contains an address's host.
fn is_exception(address: &Uri, list: &str) -> bool {
    let host = bare(address.host().unwrap_or_default());
    let port = address.port_u16().unwrap_or(if address.scheme_str() == Some("https") { 443 } else { 80 });
    list.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty()).any(|entry| {
        // Python's libraries accept a port, curl does not.
        let (name, of_port) = match entry.rsplit_once(':') {
            Some((name, of_port)) if !name.contains(':') || name.ends_with(']') => (name, of_port.parse().ok()),
            _ => (entry, None),
        };
        of_port.is_none_or(|of_port: u16| of_port == port) && is_of(host, bare(name))
    })
}

/// Whether an entry names this host, its domain, or its network (such as `10.0.0.0/8`).
fn is_of(host: &str, entry: &str) -> bool {
    if entry == "*" {
        return true;
    }
    if let Ok(host) = host.parse::<IpAddr>() {
        let (network, bits) = match entry.split_once('/') {
            Some((network, bits)) => (network, bits.parse().ok()),
            None => (entry, Some(u32::MAX)),
        };
        return match (host, network.parse(), bits) {
            (IpAddr::V4(host), Ok(IpAddr::V4(network)), Some(bits)) => {
                (host.to_bits() ^ network.to_bits()).leading_zeros() >= bits.min(32)
            }
            (IpAddr::V6(host), Ok(IpAddr::V6(network)), Some(bits)) => {
                (host.to_bits() ^ network.to_bits()).leading_zeros() >= bits.min(128)
            }
            _ => false,
        };
    }
    let (host, domain) = (host.to_ascii_lowercase(), entry.to_ascii_lowercase());
    let domain = domain.strip_prefix('*').unwrap_or(&domain);
    let domain = domain.strip_prefix('.').unwrap_or(domain);
    let before = host.strip_suffix(domain).filter(|_| !domain.is_empty());
    before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// Without an IPv6 address's brackets and a name's final dot.
fn bare(host: &str) -> &str {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(address: &str, variables: &[(&str, &str)]) -> Result<Option<String>, String> {
        let variable = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
        Ok(choose(&address.parse().unwrap(), variable)?.map(|named| named.shown))
    }

    #[test]
    fn each_scheme_has_its_proxy() {
        let (http, https) = ("http://mirror/c.tar.gz", "https://mirror/c.tar.gz");
        for (address, variables, expected) in [
            (http, &[("https_proxy", "http://p:1"), ("HTTPS_PROXY", "http://p:2")][..], None),
            (https, &[("http_proxy", "http://p:1")], None),
            (http, &[("http_proxy", "http://p:1"), ("all_proxy", "http://p:2")], Some("http://p:1 (http_proxy)")),
            (https, &[("https_proxy", "p:1"), ("HTTPS_PROXY", "p:2")], Some("http://p:1 (https_proxy)")),
            (https, &[("HTTPS_PROXY", "https://p"), ("ALL_PROXY", "p:3")], Some("https://p:443 (HTTPS_PROXY)")),
            (http, &[("HTTP_PROXY", "http://p:1")], None),
            (http, &[("http_proxy", ""), ("ALL_PROXY", "http://p:3")], Some("http://p:3 (ALL_PROXY)")),
            (https, &[("all_proxy", " http://p:3 "), ("ALL_PROXY", "http://p:4")], Some("http://p:3 (all_proxy)")),
            (http, &[], None),
        ] {
            assert_eq!(chosen(address, variables).unwrap().as_deref(), expected, "{address} {variables:?}");
        }
    }

    #[test]
    fn exceptions_are_hosts_domains_networks_and_ports() {
        let excepted = [
            ("http://127.0.0.1:8000/", "localhost, 127.0.0.1"),
            ("http://localhost/", "LOCALHOST"),
            ("http://mirror.example.org/", "example.org"),
            ("http://mirror.example.org/", ".example.org"),
            ("http://mirror.example.org/", "*.example.org"),
            ("http://example.org./", ".Example.ORG."),
            ("http://mirror.example.org/", "a.b\tc.d example.org"),
            ("http://mirror.example.org/", "*"),
            ("http://mirror.example.org/", "other, *"),
            ("http://mirror.example.org:8000/", "example.org:8000"),
            ("https://mirror.example.org/", "example.org:443"),
            ("http://10.1.2.3/", "10.0.0.0/8"),
            ("http://10.1.2.3:8000/", "10.1.2.3/32:8000"),
            ("http://10.1.2.3/", "0.0.0.0/0"),
            ("http://[::1]:8000/", "::1"),
            ("http://[::1]:8000/", "[::1]:8000"),
            ("http://[fd00::1]/", "fd00::/8"),
        ];
        let not = [
            ("http://example.org/", "mirror.example.org"),
            ("http://notexample.org/", "example.org"),
            ("http://example.org.evil/", "example.org"),
            ("http://mirror.example.org:8000/", "example.org:80"),
            ("http://11.1.2.3/", "10.0.0.0/8"),
            ("http://10.1.2.3/", "2.3"),
            ("http://10.1.2.3/", "10.0.0.0/x"),
            ("http://[::1]/", "::2, ::ffff:0:0/96"),
            ("http://mirror.example.org/", " , . ,"),
            ("http://mirror.example.org/", ""),
        ];
        for (address, list) in excepted.into_iter().chain(not) {
            for name in ["no_proxy", "NO_PROXY"] {
                let direct = chosen(address, &[("all_proxy", "http://p:1"), (name, list)]).unwrap().is_none();
                assert_eq!(direct, excepted.contains(&(address, list)), "{address} {name}={list}");
            }
        }
    }

    #[test]
    fn no_message_shows_the_password() {
        let address = "http://mirror/c.tar.gz";
        let shown = chosen(address, &[("http_proxy", "http://ada:secret@p:1")]).unwrap().unwrap();
        assert_eq!(shown, "http://p:1 (http_proxy)");
        for value in ["socks5h://ada:secret@p:1", "ftp://ada:secret@p:1", "http://ada:secret@", "http://ada:secret@p q"]
        {
            let error = chosen(address, &[("all_proxy", value)]).unwrap_err();
            assert!(error.contains("all_proxy") && !error.contains("secret"), "{value}: {error}");
        }
    }
}
