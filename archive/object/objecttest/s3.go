package objecttest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Bucket is a fresh bucket in a real S3 server (versitygw) on this machine.
type Bucket struct {
	URL      string   // for object.Open
	Env      []string // name=value: what a child process needs to use it; the test process has it set already
	Name     string
	Endpoint string     // http://127.0.0.1:port
	Client   *s3.Client // for what the package object can't do: tampering
}

const (
	accessKey = "holdfast-test"
	secretKey = "holdfast-test-secret"
)

// StartS3 gives a fresh bucket without versions. One server serves the whole test process, and ends with it, however it ends. The first
// use on a machine builds the server from the module proxy, which takes minutes; the build cache keeps it. Where that fails the test is
// skipped, and in CI (environment CI set) fails.
func StartS3(t testing.TB) Bucket { return startBucket(t, false) }

// StartLockedS3 gives a fresh bucket with versions and Object Lock.
func StartLockedS3(t testing.TB) Bucket { return startBucket(t, true) }

func startBucket(t testing.TB, lock bool) Bucket {
	t.Helper()
	endpoint, err := server()
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("no S3 server: %v", err)
		}
		t.Skipf("no S3 server (it is built by the go command from the module proxy): %v", err)
	}
	b := Bucket{
		Name:     "t-" + strings.ToLower(rand.Text()),
		Endpoint: endpoint,
		Env:      environment,
		Client: s3.New(s3.Options{
			BaseEndpoint: &endpoint, UsePathStyle: true, Region: "us-east-1",
			Credentials:                credentials.NewStaticCredentialsProvider(accessKey, secretKey, ""),
			RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
			ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
		}),
	}
	b.URL = b.URLAt(endpoint)
	if _, err := b.Client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &b.Name, ObjectLockEnabledForBucket: &lock}); err != nil {
		t.Fatalf("bucket: %v", err)
	}
	return b
}

// URLAt is the URL of the bucket behind another endpoint, such as a proxy.
func (b Bucket) URLAt(endpoint string) string {
	return fmt.Sprintf("s3://%s/some/prefix?region=us-east-1&path_style=true&endpoint=%s", b.Name, endpoint)
}

// environment is what the AWS SDK finds its credentials by, and nothing of the machine's own.
var environment = []string{
	"AWS_ACCESS_KEY_ID=" + accessKey,
	"AWS_SECRET_ACCESS_KEY=" + secretKey,
	"AWS_SESSION_TOKEN=",
	"AWS_PROFILE=",
	"AWS_CONFIG_FILE=" + os.DevNull,
	"AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull,
	"AWS_EC2_METADATA_DISABLED=true",
}

// server starts the server once and gives its endpoint.
var server = sync.OnceValues(func() (string, error) {
	program, err := buildServer()
	if err != nil {
		return "", err
	}
	var faults []error
	for range 3 { // the free port may be taken by somebody else meanwhile
		endpoint, err := runServer(program)
		if err == nil {
			for _, e := range environment {
				name, value, _ := strings.Cut(e, "=")
				if err := os.Setenv(name, value); err != nil {
					return "", err
				}
			}
			return endpoint, nil
		}
		faults = append(faults, err)
	}
	return "", errors.Join(faults...)
})

// buildServer gives the path of the server's program in the build cache. Its module is of its own, so that what it needs stays out of
// this project's module file.
func buildServer() (string, error) {
	module, err := moduleDir()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 9*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "tool", "-n", "versitygw")
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-buildvcs=false", "PWD="+module)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return "", fmt.Errorf("go tool versitygw: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// moduleDir finds the folder of the server's module from the folder of whatever package is tested.
func moduleDir() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		module := filepath.Join(dir, "archive", "object", "objecttest", "versitygw")
		if _, err := os.Stat(filepath.Join(module, "go.mod")); err == nil {
			return module, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("archive/object/objecttest/versitygw is not above the working directory")
		}
		dir = up
	}
}

// guard runs the server until its own standard input ends, which it does when the test process is gone, and cleans up.
const guard = `trap '' INT; dir=$1; shift
"$@" </dev/null >"$dir/log" 2>&1 &
server=$!
cat >/dev/null
kill $server; wait $server; rm -rf "$dir"`

func runServer(program string) (endpoint string, err error) {
	dir, err := os.MkdirTemp("", "objecttest-s3-")
	if err != nil {
		return "", err
	}
	for _, sub := range []string{"iam", "versions", "root", "meta"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			return "", err
		}
	}
	port, err := freePort()
	if err != nil {
		return "", err
	}
	cmd := exec.Command("sh", "-c", guard, "sh", dir, program,
		"--port", port, "--access", accessKey, "--secret", secretKey, "--iam-dir", filepath.Join(dir, "iam"),
		"--quiet", "--keep-alive", "--health", "/health",
		"posix", "--sidecar", filepath.Join(dir, "meta"), "--versioning-dir", filepath.Join(dir, "versions"), filepath.Join(dir, "root"))
	cmd.Env = append(os.Environ(), "PWD="+dir)
	cmd.Dir = dir
	stdin, err := cmd.StdinPipe() // stays open as long as this process lives
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	endpoint = "http://" + port
	if err := awaitHealth(endpoint+"/health", 30*time.Second); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		stdin.Close()
		cmd.Wait()
		return "", fmt.Errorf("versitygw does not answer: %w\n%s", err, log)
	}
	guards = append(guards, stdin)
	return endpoint, nil
}

// guards are the standard inputs of guards: an unreachable pipe would be closed by the garbage collector.
var guards []io.Closer

func awaitHealth(url string, atMost time.Duration) error {
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(atMost); ; <-tick.C {
		answer, err := client.Get(url)
		if err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(answer.Status)
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
