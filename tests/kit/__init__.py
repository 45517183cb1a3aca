"""The tools of the tests: real servers, a proxy, a browser, and their own tests."""
