// Package check holds the deployment's files to the schemas of the tools that read them, and to the program that they
// start. It is a module of its own, so that the program's has no use for Kubernetes.
package check

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

// kinds are the kinds of object that the manifests have, empty.
var kinds = map[string]func() any{
	"v1/Namespace": func() any { return &corev1.Namespace{} }, "v1/Service": func() any { return &corev1.Service{} },
	"apps/v1/StatefulSet": func() any { return &appsv1.StatefulSet{} }, "apps/v1/Deployment": func() any { return &appsv1.Deployment{} },
	"batch/v1/Job": func() any { return &batchv1.Job{} }, "policy/v1/PodDisruptionBudget": func() any { return &policyv1.PodDisruptionBudget{} },
	"autoscaling/v2/HorizontalPodAutoscaler": func() any { return &autoscalingv2.HorizontalPodAutoscaler{} },
	"networking.k8s.io/v1/NetworkPolicy":     func() any { return &networkingv1.NetworkPolicy{} },
}

// manifests reads every object that kustomization.yaml names. A field that its kind does not have is an error.
func manifests(t *testing.T) []any {
	t.Helper()
	var kustomization struct {
		Resources []string `json:"resources"`
	}
	must(t, yaml.Unmarshal(read(t, "../kubernetes/kustomization.yaml"), &kustomization))
	files, err := filepath.Glob("../kubernetes/*.yaml")
	must(t, err)
	if len(kustomization.Resources)+1 != len(files) {
		t.Errorf("%d files are resources, and there are %d", len(kustomization.Resources), len(files))
	}
	var objects []any
	for _, file := range kustomization.Resources {
		for _, document := range regexp.MustCompile(`(?m)^---$`).Split(string(read(t, "../kubernetes/"+file)), -1) {
			var meta metav1.TypeMeta
			must(t, yaml.Unmarshal([]byte(document), &meta))
			empty := kinds[meta.APIVersion+"/"+meta.Kind]
			if empty == nil {
				t.Errorf("%s: an object of kind %s/%s", file, meta.APIVersion, meta.Kind)
				continue
			}
			object := empty()
			if err := yaml.UnmarshalStrict([]byte(document), object); err != nil {
				t.Errorf("%s: %v", file, err)
			}
			objects = append(objects, object)
		}
	}
	return objects
}

// pods gives the pod template of each workload, by its name.
func pods(objects []any) map[string]corev1.PodTemplateSpec {
	found := map[string]corev1.PodTemplateSpec{}
	for _, object := range objects {
		switch o := object.(type) {
		case *appsv1.Deployment:
			found[o.Name] = o.Spec.Template
		case *appsv1.StatefulSet:
			template := *o.Spec.Template.DeepCopy()
			for _, claim := range o.Spec.VolumeClaimTemplates {
				template.Spec.Volumes = append(template.Spec.Volumes, corev1.Volume{Name: claim.Name})
			}
			found[o.Name] = template
		case *batchv1.Job:
			found[o.Name] = o.Spec.Template
		}
	}
	return found
}

// TestPodsAreConfined: no process is root, writes to its image, or keeps a capability (the "restricted" standard).
func TestPodsAreConfined(t *testing.T) {
	templates := pods(manifests(t))
	if len(templates) != 5 {
		t.Errorf("%d workloads", len(templates))
	}
	for name, pod := range templates {
		s := pod.Spec.SecurityContext
		if s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.RunAsUser == nil || *s.RunAsUser == 0 || s.SeccompProfile == nil ||
			s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault || pod.Spec.AutomountServiceAccountToken == nil || *pod.Spec.AutomountServiceAccountToken {
			t.Errorf("%s: the pod's security context is %+v", name, s)
		}
		for _, c := range pod.Spec.Containers {
			s := c.SecurityContext
			if s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation ||
				s.Capabilities == nil || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) > 0 {
				t.Errorf("%s: the container's security context is %+v", name, s)
			}
			if c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() {
				t.Errorf("%s: resources are %+v", name, c.Resources)
			}
			if name != "rollbook-init" && (c.ReadinessProbe == nil || c.LivenessProbe == nil || c.StartupProbe == nil) {
				t.Errorf("%s lacks a probe", name)
			}
			mounted := map[string]bool{}
			for _, v := range pod.Spec.Volumes {
				mounted[v.Name] = true
			}
			for _, m := range c.VolumeMounts {
				if !mounted[m.Name] {
					t.Errorf("%s mounts %s, which is no volume", name, m.Name)
				}
			}
		}
	}
}

// TestSelectorsSelect: what refers to pods by labels refers to some, and ports that are named are there.
func TestSelectorsSelect(t *testing.T) {
	objects := manifests(t)
	templates := pods(objects)
	selects := func(what string, selector map[string]string) (names []string) {
		for name, pod := range templates {
			if labels.SelectorFromSet(selector).Matches(labels.Set(pod.Labels)) {
				names = append(names, name)
			}
		}
		if len(names) == 0 || len(selector) == 0 {
			t.Errorf("%s selects nothing: %v", what, selector)
		}
		return names
	}
	for _, object := range objects {
		switch o := object.(type) {
		case *appsv1.Deployment:
			if names := selects(o.Name, o.Spec.Selector.MatchLabels); !slices.Equal(names, []string{o.Name}) {
				t.Errorf("%s selects the pods of %v", o.Name, names)
			}
		case *appsv1.StatefulSet:
			if names := selects(o.Name, o.Spec.Selector.MatchLabels); !slices.Equal(names, []string{o.Name}) {
				t.Errorf("%s selects the pods of %v", o.Name, names)
			}
		case *policyv1.PodDisruptionBudget:
			selects("the budget "+o.Name, o.Spec.Selector.MatchLabels)
		case *networkingv1.NetworkPolicy:
			selects("the policy "+o.Name, o.Spec.PodSelector.MatchLabels)
		case *autoscalingv2.HorizontalPodAutoscaler:
			if _, there := templates[o.Spec.ScaleTargetRef.Name]; !there {
				t.Errorf("%s scales %s", o.Name, o.Spec.ScaleTargetRef.Name)
			}
		case *corev1.Service:
			for _, name := range selects("the service "+o.Name, o.Spec.Selector) {
				var ports []string
				for _, p := range templates[name].Spec.Containers[0].Ports {
					ports = append(ports, p.Name)
				}
				for _, p := range o.Spec.Ports {
					if to := p.TargetPort.StrVal; to != "" && !slices.Contains(ports, to) {
						t.Errorf("the service %s sends %s to %s, which %s does not have", o.Name, p.Name, to, name)
					}
				}
			}
		}
	}
}

// program is the real one, built for the tests.
func program(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rollbook")
	cmd := exec.Command("go", "build", "-o", file, "./cmd/rollbook")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return file
}

// understands runs the program with the arguments of a container against a bus that is not there: it must come as far as
// the bus. An argument or a setting that it does not know ends it with 2.
func understands(t *testing.T, program, what string, args, env []string) {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key")
	must(t, os.WriteFile(key, bytes.Repeat([]byte("k"), 32), 0o600))
	creds := filepath.Join(t.TempDir(), "user.nk")
	must(t, os.WriteFile(creds, []byte("SUAKYRHVIOREXV7EUZTBHUHL7NUMHPMAS7QMDU3GTIUWEI5LDNOXD43IZY\n"), 0o600)) // nkeys' own sample
	config := filepath.Join(t.TempDir(), "rollbook.toml")
	text := bytes.ReplaceAll(read(t, "../kubernetes/rollbook.toml"), []byte("/etc/rollbook/secrets/deployment.key"), []byte(key))
	must(t, os.WriteFile(config, text, 0o600))
	for i, a := range args {
		switch {
		case strings.HasSuffix(a, ".toml"):
			args[i] = config
		case strings.HasSuffix(a, ".nk"):
			args[i] = creds
		}
	}
	cmd := exec.Command(program, append(args, "--bus", "nats://127.0.0.1:1")...)
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		if name == "ROLLBOOK_DEPLOYMENT_KEY_FILE" {
			value = key
		}
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !bytes.Contains(out, []byte("connect to the bus")) {
		t.Errorf("%s: rollbook %s: %v\n%s", what, strings.Join(args, " "), err, out)
	}
}

// TestProgramUnderstands: the arguments and the configuration of each container are the program's.
func TestProgramUnderstands(t *testing.T) {
	rollbook := program(t)
	n := 0
	for name, pod := range pods(manifests(t)) {
		if name != "nats" {
			n++
			understands(t, rollbook, name, slices.Clone(pod.Spec.Containers[0].Args), []string{"ROLLBOOK_PORT_BASE=0"})
		}
	}
	for _, s := range compose(t).Services {
		if strings.HasPrefix(s.Name, "nats") {
			continue
		}
		n++
		env := []string{"ROLLBOOK_PORT_BASE=0"}
		for k, v := range s.Environment {
			if k != "ROLLBOOK_HOST" {
				env = append(env, k+"="+*v)
			}
		}
		understands(t, rollbook, "compose "+s.Name, slices.Clone(s.Command), env)
	}
	if n != 8 {
		t.Errorf("%d containers were tried", n)
	}
}

func compose(t *testing.T) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{"../compose.yaml"}, cli.WithName("rollbook"))
	must(t, err)
	project, err := options.LoadProject(context.Background())
	must(t, err)
	return project
}

// TestCompose: the file is of the Compose specification, and its services are confined like the pods.
func TestCompose(t *testing.T) {
	project := compose(t)
	if len(project.Services) != 7 {
		t.Errorf("%d services", len(project.Services))
	}
	for _, s := range project.Services {
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || s.Privileged {
			t.Errorf("%s is not confined", s.Name)
		}
	}
}

// TestDockerfile: it parses as the builder parses it, without a warning of its linter, and ends as nobody's image.
func TestDockerfile(t *testing.T) {
	parsed, err := parser.Parse(bytes.NewReader(read(t, "../Dockerfile")))
	must(t, err)
	for _, w := range parsed.Warnings {
		t.Errorf("%+v", w)
	}
	var warned []string
	lint := linter.New(&linter.Config{Warn: func(rule, _, _, text string, _ []parser.Range) { warned = append(warned, rule+": "+text) }})
	stages, _, err := instructions.Parse(parsed.AST, lint)
	must(t, err)
	if len(warned) > 0 {
		t.Error(warned)
	}
	last := stages[len(stages)-1]
	if last.BaseName != "scratch" {
		t.Errorf("the image is made from %s", last.BaseName)
	}
	user := ""
	for _, c := range last.Commands {
		if u, ok := c.(*instructions.UserCommand); ok {
			user = u.User
		}
	}
	if user != "65532:65532" {
		t.Errorf("the image runs as %q", user)
	}
}

// TestConfigMap: the file that the pods get is TOML; TestProgramUnderstands has the program read it.
func TestConfigMap(t *testing.T) {
	var m map[string]any
	_, err := toml.Decode(string(read(t, "../kubernetes/rollbook.toml")), &m)
	must(t, err)
	if fmt.Sprint(m["partitions"]) != "4" {
		t.Errorf("%v", m)
	}
}

// TestDashboard: what the dashboard asks for is what the program counts.
func TestDashboard(t *testing.T) {
	var dashboard struct {
		Panels []struct {
			ID      int
			Type    string
			Targets []struct{ Expr string }
		}
	}
	must(t, json.Unmarshal(read(t, "../grafana/rollbook.json"), &dashboard))
	asked := map[string]bool{}
	for _, p := range dashboard.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %d asks nothing", p.ID)
		}
		for _, target := range p.Targets {
			for _, name := range regexp.MustCompile(`rollbook_[a-z_]+`).FindAllString(target.Expr, -1) {
				asked[regexp.MustCompile(`_(bucket|count|sum)$`).ReplaceAllString(name, "")] = true
			}
		}
	}
	source := new(strings.Builder)
	for _, pattern := range []string{"../../*/*.go", "../../*/*/*.go"} {
		files, err := filepath.Glob(pattern)
		must(t, err)
		for _, file := range files {
			if !strings.HasSuffix(file, "_test.go") {
				source.Write(read(t, file))
			}
		}
	}
	for name := range asked {
		counted := strings.Contains(source.String(), `"`+name+`"`)
		for family, made := range map[string][]string{"rollbook_projection_": {`desc("`}, "rollbook_snapshot_": {`snapshotGauge("`}, "rollbook_feed_": {`desc("`},
			"rollbook_webhook_": {`counter("`, `gauge("`}, "rollbook_notary_": {`notaryDesc("`}} {
			part, of := strings.CutPrefix(name, family)
			counted = counted || of && slices.ContainsFunc(made, func(by string) bool { return strings.Contains(source.String(), by+part+`"`) })
		}
		if !counted {
			t.Errorf("nothing counts %s", name)
		}
	}
	if len(asked) < 30 {
		t.Errorf("%d metrics are shown", len(asked))
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	f, err := os.Open(file)
	must(t, err)
	defer f.Close()
	data, err := io.ReadAll(f)
	must(t, err)
	return data
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
