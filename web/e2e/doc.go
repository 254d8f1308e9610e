// Package e2e tests the pages in a real browser: headless Chromium against the handler. It has tests only.
package e2e
