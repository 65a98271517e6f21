package adapters_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"testing"

	"rollbook/adapters"
)

func TestSocketsAreBoundedAndJoined(t *testing.T) {
	s := adapters.NewSockets(2)
	for i, want := range []bool{true, true, false} {
		if s.Admit() != want {
			t.Errorf("socket %d of 2: not %v", i+1, want)
		}
	}
	if s.Open() != 2 {
		t.Errorf("%d sockets are open of 2", s.Open())
	}
	s.Dismiss()
	if s.Open() != 1 || !s.Admit() {
		t.Error("a socket that is gone makes no room")
	}
	if s.Closing().Err() != nil {
		t.Error("the service stops by itself")
	}
	hasty, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Shutdown(hasty); !errors.Is(err, context.Canceled) {
		t.Errorf("with sockets open: %v", err)
	}
	if s.Closing().Err() == nil || s.Admit() {
		t.Error("a socket was admitted while the service stops")
	}
	done := make(chan error)
	go func() { done <- s.Shutdown(t.Context()) }()
	s.Dismiss()
	s.Dismiss()
	if err := <-done; err != nil || s.Open() != 0 || s.Admit() {
		t.Errorf("%v, %d open", err, s.Open())
	}
}

func TestMessageRate(t *testing.T) {
	m := adapters.NewMessageRate(1)
	for range 2 {
		if !m.Allow() || m.Abused() {
			t.Error("a burst of twice the rate is not within the limit")
		}
	}
	// A slow machine may take seconds for these; then some are within, and it begins anew.
	for over := 0; over <= 20; over++ {
		if m.Abused() {
			t.Fatalf("abused after %d messages over the limit", over)
		}
		if m.Allow() {
			over = -1
		}
	}
	if !m.Abused() {
		t.Error("21 messages over the limit are no abuse")
	}
	for !m.Allow() {
	}
	if m.Abused() {
		t.Error("a message within the limit is not forgiven for")
	}
}

func TestIsUpgrade(t *testing.T) {
	for _, test := range []struct {
		method, upgrade, connection string
		want                        bool
	}{
		{"GET", "websocket", "Upgrade", true}, {"GET", "h2c, WebSocket", "keep-alive, upgrade", true}, {"POST", "websocket", "Upgrade", false},
		{"GET", "websocket", "xupgrade", false}, {"GET", "websockets", "Upgrade", false}, {"GET", "", "Upgrade", false}, {"GET", "websocket", "", false},
	} {
		r := httptest.NewRequest(test.method, "/", nil)
		r.Header.Set("Upgrade", test.upgrade)
		r.Header.Set("Connection", test.connection)
		if got := adapters.IsUpgrade(r); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
}
