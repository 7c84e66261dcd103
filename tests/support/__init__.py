"""What the tests share: servers, proxies, raw protocol client."""
