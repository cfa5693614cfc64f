/* SPDX-License-Identifier: MIT */
/* The C ABI of models, called as a C program would; and what every function makes of nothing. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pybridge.h"

enum { N = 6, MEMBERS = 5, STEPS = 7 };

static int failures = 0;

static void check(int passed, const char *what)
{
  if (!passed) {
    printf("FAILED: %s\n", what);
    ++failures;
  }
}

/* x <- x + dt (p0 x - p1 x^3), with a count of its calls as context */

static int step(void *context, int k, double t, int n, int n_parameters, const double *p, double *x)
{
  int i;
  (void)n_parameters;
  if (context) ++*(int *)context;
  if (fabs(t - 0.01 * k) > 1e-15) return 1;
  if (x[0] > 1e3) return 7;
  for (i = 0; i < n; ++i) x[i] += 0.01 * (p[0] * x[i] - p[1] * x[i] * x[i] * x[i]);
  return 0;
}

static int step_tl(void *context, int k, double t, int n, int n_parameters, const double *p,
                   const double *x, const double *dp, double *dx)
{
  int i;
  (void)context, (void)k, (void)t, (void)n_parameters;
  for (i = 0; i < n; ++i) {
    dx[i] += 0.01 * ((p[0] - 3.0 * p[1] * x[i] * x[i]) * dx[i] + dp[0] * x[i] -
                     dp[1] * x[i] * x[i] * x[i]);
  }
  return 0;
}

static int step_ad(void *context, int k, double t, int n, int n_parameters, const double *p,
                   const double *x, double *x_ad, double *p_ad)
{
  int i;
  (void)context, (void)k, (void)t, (void)n_parameters;
  for (i = 0; i < n; ++i) {
    p_ad[0] += 0.01 * x[i] * x_ad[i];
    p_ad[1] -= 0.01 * x[i] * x[i] * x[i] * x_ad[i];
    x_ad[i] += 0.01 * (p[0] - 3.0 * p[1] * x[i] * x[i]) * x_ad[i];
  }
  return 0;
}

static double *workspace(const pybridge_model *model, int purpose, int threads, int64_t *n_work)
{
  double *work;
  *n_work = pybridge_model_workspace(model, purpose, STEPS, MEMBERS, threads);
  work = malloc((size_t)*n_work * sizeof *work);
  if (!work) exit(1);
  return work;
}

static double dot(int n, const double *a, const double *b)
{
  double sum = 0.0;
  int i;
  for (i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

/* The identity <M dx + P dp, y> = <dx, M^T y> + <dp, P^T y>, serially and with threads */
static void derivatives_belong_together(const pybridge_model *model, const char *name)
{
  int n, n_parameters, n_carry, threads, i, m, f;
  double dt, left, right, size;
  double *x, *dx, *dx0, *y, *y0, *dp, *p_ad, *p_ad_serial = NULL;

  check(pybridge_model_sizes(model, &n, &n_parameters, &n_carry, &dt) == PYBRIDGE_OK, name);
  check(n_carry == 0, name);
  x = malloc(6u * MEMBERS * n * sizeof *x);
  dp = calloc(3u * n_parameters, sizeof *dp);
  if (!x || !dp) exit(1);
  dx = x + MEMBERS * n;
  dx0 = dx + MEMBERS * n;
  y = dx0 + MEMBERS * n;
  y0 = y + MEMBERS * n;
  p_ad_serial = dp + n_parameters;
  p_ad = dp + 2 * n_parameters;
  for (i = 0; i < n_parameters; ++i) dp[i] = cos(i + 0.5);
  for (threads = 1; threads <= 3; threads += 2) {
    int64_t n_work;
    double *work;
    for (i = 0; i < MEMBERS * n; ++i) {
      x[i] = 0.3 * sin(1.3 * i);
      dx[i] = dx0[i] = cos(0.7 * i);
      y[i] = y0[i] = sin(2.1 * i + 1.0);
    }
    for (i = 0; i < n_parameters; ++i) p_ad[i] = 0.0;
    work = workspace(model, PYBRIDGE_WORKSPACE_TL, threads, &n_work);
    check(pybridge_model_forecast_tl(model, 3, STEPS, MEMBERS, threads, NULL, x, dp, dx, work,
                                     n_work, &m, &f) == PYBRIDGE_OK, name);
    check(pybridge_model_forecast_tl(model, 3, STEPS, MEMBERS, threads, NULL, x, dp, dx, work,
                                     n_work - 1, &m, &f) == PYBRIDGE_WRONG_SHAPE, name);
    free(work);
    work = workspace(model, PYBRIDGE_WORKSPACE_AD, threads, &n_work);
    check(pybridge_model_forecast_ad(model, 3, STEPS, MEMBERS, threads, NULL, x, y, p_ad, work,
                                     n_work, &m, &f) == PYBRIDGE_OK, name);
    free(work);
    left = dot(MEMBERS * n, dx, y0);
    right = dot(MEMBERS * n, dx0, y) + dot(n_parameters, dp, p_ad);
    size = sqrt(dot(MEMBERS * n, dx, dx) * dot(MEMBERS * n, y0, y0));
    check(fabs(left - right) <= 1e-13 * size, name);
    if (threads == 1) memcpy(p_ad_serial, p_ad, n_parameters * sizeof *p_ad);
    check(memcmp(p_ad_serial, p_ad, n_parameters * sizeof *p_ad) == 0, name);
  }
  free(x);
  free(dp);
}

/* It says that all went well from step 3 on, whatever it returns */
static int acknowledging_step(void *done, int k, double t, int n, int n_parameters, const double *p,
                              double *x)
{
  (void)t, (void)n, (void)n_parameters, (void)p, (void)x;
  if (k >= 3) *(int *)done = 1;
  return 1;
}

static void a_step_may_be_acknowledged(void)
{
  double x[1] = {0.0}, *work;
  int64_t n_work;
  int m, f;
  pybridge_model *model;

  check(pybridge_model_user(1, 0, x, 0.01, NULL, acknowledging_step, NULL, NULL, &model) ==
            PYBRIDGE_OK, "a model whose procedure acknowledges");
  check(pybridge_model_user_acknowledges(model) == PYBRIDGE_OK, "is told so");
  work = workspace(model, PYBRIDGE_WORKSPACE_FORECAST, 1, &n_work);
  check(pybridge_model_forecast(model, 3, STEPS, 1, 1, 1, NULL, x, NULL, work, n_work, &m, &f) ==
            PYBRIDGE_OK, "a step that was acknowledged was made");
  check(pybridge_model_forecast(model, 2, STEPS, 1, 1, 1, NULL, x, NULL, work, n_work, &m, &f) ==
            PYBRIDGE_USER_PROCEDURE && m == 1 && f == 1, "and one that was not, was not");
  free(work);
  pybridge_model_free(model);
  check(pybridge_model_lorenz63(0.01, 10.0, 28.0, 2.0, &model) == PYBRIDGE_OK, "another model");
  check(pybridge_model_user_acknowledges(model) == PYBRIDGE_INVALID_ARGUMENT, "has no procedures");
  pybridge_model_free(model);
  check(pybridge_model_user_acknowledges(NULL) == PYBRIDGE_NULL_HANDLE, "nor has none");
}

static void users_models_are_models(void)
{
  const double parameters[2] = {0.4, 0.1};
  double x[MEMBERS][N], kept[MEMBERS][STEPS / 2 + 1][N], p[2];
  double *work;
  int64_t n_work;
  int calls = 0, m, f, i;
  pybridge_model *model, *forward_only;

  check(pybridge_model_user(N, 2, parameters, 0.01, &calls, step, step_tl, step_ad, &model) ==
            PYBRIDGE_OK, "a user's model is made");
  check(pybridge_model_parameters(model, p) == PYBRIDGE_OK && p[0] == 0.4 && p[1] == 0.1,
        "it keeps its parameters");
  for (m = 0; m < MEMBERS; ++m)
    for (i = 0; i < N; ++i) x[m][i] = 0.1 * (m + 1) + 0.01 * i;
  work = workspace(model, PYBRIDGE_WORKSPACE_FORECAST, 1, &n_work);
  check(pybridge_model_forecast(model, 0, STEPS, 2, MEMBERS, 1, NULL, x[0], kept[0][0], work,
                                n_work, &m, &f) == PYBRIDGE_OK && m == 0 && f == 0, "it runs");
  check(calls == STEPS * MEMBERS, "once a step and member, with its context");
  check(kept[2][0][3] == 0.1 * 3 + 0.01 * 3, "the first state kept is the one it started from");
  x[3][0] = 2e3;
  check(pybridge_model_forecast(model, 0, STEPS, 1, MEMBERS, 1, NULL, x[0], NULL, work, n_work, &m,
                                &f) == PYBRIDGE_USER_PROCEDURE && m == 4 && f == 1,
        "its failure is reported with member and step");
  x[3][0] = NAN;
  check(pybridge_model_forecast(model, 0, STEPS, 1, MEMBERS, 1, NULL, x[0], NULL, work, n_work, &m,
                                &f) == PYBRIDGE_BLOW_UP && m == 4 && f == 1,
        "and so is a state that is no number");
  free(work);

  check(pybridge_model_user(N, 2, parameters, 0.01, NULL, step, NULL, NULL, &forward_only) ==
            PYBRIDGE_OK, "a model needs no derivatives");
  work = workspace(forward_only, PYBRIDGE_WORKSPACE_AD, 1, &n_work);
  x[3][0] = 0.0;
  check(pybridge_model_forecast_ad(forward_only, 0, 1, 1, 1, NULL, x[0], x[1], NULL, work, n_work,
                                   &m, &f) == PYBRIDGE_NOT_AVAILABLE, "and then has none");
  free(work);
  pybridge_model_free(forward_only);
  check(pybridge_model_user(N, 2, parameters, 0.01, NULL, NULL, NULL, NULL, &forward_only) ==
            PYBRIDGE_INVALID_ARGUMENT && !forward_only, "but a step it must have");
  derivatives_belong_together(model, "user's model");
  pybridge_model_free(model);
}

static void bundled_models_have_derivatives(void)
{
  const double el_nino[7] = {0.7, 0.1, 1.0, 0.75, 0.25, 0.125, 2.5};
  pybridge_model *model;

  check(pybridge_model_lorenz63(0.01, 10.0, 28.0, 8.0 / 3.0, &model) == PYBRIDGE_OK, "Lorenz-63");
  derivatives_belong_together(model, "Lorenz-63");
  pybridge_model_free(model);
  check(pybridge_model_lorenz96(9, 0.05, 8.0, &model) == PYBRIDGE_OK, "Lorenz-96");
  derivatives_belong_together(model, "Lorenz-96");
  pybridge_model_free(model);
  check(pybridge_model_two_scale_lorenz96(4, 3, 0.005, 10.0, 1.0, 10.0, 10.0, &model) ==
            PYBRIDGE_OK, "two-scale Lorenz-96");
  derivatives_belong_together(model, "two-scale Lorenz-96");
  pybridge_model_free(model);
  check(pybridge_model_recharge_oscillator(0.1, el_nino, &model) == PYBRIDGE_OK, "oscillator");
  derivatives_belong_together(model, "recharge oscillator");
  pybridge_model_free(model);
  check(pybridge_model_lorenz96(3, 0.05, 8.0, &model) == PYBRIDGE_INVALID_ARGUMENT && !model,
        "three points make no ring");
  check(pybridge_model_lorenz96(9, NAN, 8.0, &model) == PYBRIDGE_INVALID_ARGUMENT && !model,
        "a time step is a number");
}

/* Every function that takes an object, without one */
static void nothing_is_a_null_handle(void)
{
  double d[16] = {0.0};
  int i[8] = {0};
  char message[100];
  pybridge_model *model;
  pybridge_fourdvar *fourdvar;

#define NOTHING(call) check((call) == PYBRIDGE_NULL_HANDLE, #call)
  NOTHING(pybridge_model_user_acknowledges(NULL));
  NOTHING(pybridge_model_sizes(NULL, i, i + 1, i + 2, d));
  NOTHING(pybridge_model_parameters(NULL, d));
  NOTHING(pybridge_model_forecast(NULL, 0, 1, 1, 1, 1, NULL, d, NULL, d, 9, i, i + 1));
  NOTHING(pybridge_model_forecast_tl(NULL, 0, 1, 1, 1, NULL, d, NULL, d, d, 9, i, i + 1));
  NOTHING(pybridge_model_forecast_ad(NULL, 0, 1, 1, 1, NULL, d, d, NULL, d, 9, i, i + 1));
  NOTHING(pybridge_model_hybrid(NULL, NULL, 0, 1, 0, NULL, 0, NULL, &model, message, 100));
  NOTHING(pybridge_network_sizes(NULL, i, i + 1, i + 2));
  NOTHING(pybridge_network_parameters(NULL, d));
  NOTHING(pybridge_network_set_parameters(NULL, d));
  NOTHING(pybridge_network_forward(NULL, 1, NULL, d, d, d, d));
  NOTHING(pybridge_network_forward_tl(NULL, 1, NULL, d, d, NULL, d, d));
  NOTHING(pybridge_network_forward_ad(NULL, 1, NULL, d, d, d, NULL, d));
  NOTHING(pybridge_network_evaluate(NULL, 1, d, d));
  NOTHING(pybridge_network_evaluate_tl(NULL, 1, d, d, d, d));
  NOTHING(pybridge_network_evaluate_ad(NULL, 1, d, d, d, d));
  NOTHING(pybridge_network_self_test(NULL, message, 100));
  NOTHING(pybridge_covariance_sizes(NULL, i, i + 1));
  NOTHING(pybridge_covariance_forward(NULL, 1, d, d));
  NOTHING(pybridge_covariance_forward_ad(NULL, 1, d, d));
  NOTHING(pybridge_observations_add_selection(NULL, 0, 1, i, d));
  NOTHING(pybridge_fourdvar_new(NULL, NULL, NULL, 1, 1, 1, 1, 0, 0.1, 0.0, NULL, &fourdvar, message,
                                100));
  NOTHING(pybridge_fourdvar_set_observations(NULL, NULL, message, 100));
  NOTHING(pybridge_fourdvar_sizes(NULL, i, i + 1));
  NOTHING(pybridge_fourdvar_analyse(NULL, 0, d, NULL, d, d, d, d, d, NULL, i));
  NOTHING(pybridge_fourdvar_history(NULL, i, i + 1, i + 2, i + 3, i + 4, d, d, d, i + 5, d, d));
  NOTHING(pybridge_fourdvar_cost_and_gradient(NULL, 0, d, NULL, d, d, d, d + 1, d + 2, i));
  NOTHING(pybridge_fourdvar_observation_cost_and_gradient(NULL, 0, d, NULL, d, d + 1, d + 2, d + 3,
                                                          i));
  NOTHING(pybridge_fourdvar_hessian(NULL, 0, d, d));
  NOTHING(pybridge_fourdvar_to_physical(NULL, d, NULL, d, d, d));
  check(!model && !fourdvar, "no object comes of nothing");
  check(pybridge_model_workspace(NULL, 0, 1, 1, 1) == 0, "no workspace");
  check(pybridge_network_linearisation_size(NULL, 1) == 0, "no record");
  check(pybridge_network_work_size(NULL, 1) == 0, "no scratch space");
  pybridge_model_free(NULL);
  pybridge_network_free(NULL);
  pybridge_covariance_free(NULL);
  pybridge_observations_free(NULL);
  pybridge_fourdvar_free(NULL);
}

static void files_that_are_no_networks_are_told_apart(void)
{
  const int8_t bytes[4] = {1, 2, 3, 4};
  char message[20];
  pybridge_network *network;

  check(pybridge_network_from_file("/no such directory/file", &network, message, sizeof message) ==
            PYBRIDGE_FILE_ACCESS && !network, "no such file");
  check(strlen(message) == sizeof message - 1, "a long message is cut to its buffer");
  check(pybridge_network_from_bytes(bytes, 4, &network, message, sizeof message) ==
            PYBRIDGE_FILE_FORMAT && !network, "four bytes are no network");
  check(pybridge_network_from_bytes(bytes, -1, &network, message, sizeof message) ==
            PYBRIDGE_INVALID_ARGUMENT && !network, "fewer than none are no bytes");
  pybridge_status_message(PYBRIDGE_CHECKSUM, message, 6);
  check(strcmp(message, "a fil") == 0, "a sentence is cut to its buffer");
}

static void full_covariances_are_factorised(void)
{
  const double matrix[4] = {4.0, 2.0, 2.0, 2.0}, indefinite[4] = {1.0, 2.0, 2.0, 1.0};
  const double v[2] = {1.0, 0.0};
  double dx[2], v_ad[2] = {0.0, 0.0};
  int n_state, n_control;
  pybridge_covariance *covariance;

  check(pybridge_covariance_full(2, indefinite, &covariance) == PYBRIDGE_NOT_POSITIVE_DEFINITE &&
            !covariance, "an indefinite matrix is no covariance");
  check(pybridge_covariance_full(2, matrix, &covariance) == PYBRIDGE_OK, "a covariance is made");
  check(pybridge_covariance_sizes(covariance, &n_state, &n_control) == PYBRIDGE_OK &&
            n_state == 2 && n_control == 2, "of two values");
  /* U U^T e_1 is the first column of B */
  check(pybridge_covariance_forward_ad(covariance, 1, v, v_ad) == PYBRIDGE_OK &&
            pybridge_covariance_forward(covariance, 1, v_ad, dx) == PYBRIDGE_OK, "it is applied");
  check(fabs(dx[0] - 4.0) < 1e-14 && fabs(dx[1] - 2.0) < 1e-14, "and is its matrix");
  pybridge_covariance_free(covariance);
}

int main(void)
{
  full_covariances_are_factorised();
  users_models_are_models();
  a_step_may_be_acknowledged();
  bundled_models_have_derivatives();
  nothing_is_a_null_handle();
  files_that_are_no_networks_are_told_apart();
  if (failures) return 1;
  printf("model ABI: all checks passed\n");
  return 0;
}
