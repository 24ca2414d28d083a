package transport

func testDrivers() []string { return []string{"stream", "goroutine", "epoll"} }
