// Package e2e tests the built program as its users meet it: real mail servers before and behind it, a real S3 server under it, kill -9, and
// commands beside a running server. It has tests only.
package e2e
