/* SPDX-License-Identifier: MIT */
/* The C ABI of assimilation, called as a C program would. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "pybridge.h"

enum { N = 8, STEPS = 4, OUTER = 12, INNER = 40 };

static int failures = 0;

static void check(int passed, const char *what)
{
  if (!passed) {
    printf("FAILED: %s\n", what);
    ++failures;
  }
}

int main(void)
{
  pybridge_model *model = NULL;
  pybridge_covariance *covariance = NULL;
  pybridge_observations *observations = NULL;
  pybridge_fourdvar *fourdvar = NULL;
  char message[120];
  double sigma[N], x[N], y[2 * STEPS], truth[(STEPS + 1) * N];
  double v[N + 1] = {0}, gradient[N + 1], product[N + 1];
  double analysis[N], parameters[1], final[N], trajectory[(STEPS + 1) * N];
  const double parameter_sigma[1] = {0.5};
  int indices[2] = {0, N - 1};
  int n_control, n_observations, failed_step, i, s;

  check(pybridge_model_lorenz96(N, 0.05, 8.0, &model) == PYBRIDGE_OK, "a model is made");
  for (i = 0; i < N; ++i) {
    sigma[i] = 0.5;
    x[i] = 3.0 + sin(1.7 * i);
  }
  check(pybridge_covariance_diagonal(N, sigma, &covariance) == PYBRIDGE_OK, "a covariance is made");
  check(pybridge_observations_new(N, &observations) == PYBRIDGE_OK, "a layout is made");
  for (s = 1; s <= STEPS; ++s)
    check(pybridge_observations_add_selection(observations, s, 2, indices, sigma) == PYBRIDGE_OK,
          "observations are added");

  check(pybridge_fourdvar_new(model, covariance, observations, STEPS - 1, OUTER, INNER, 10, 0, 1e-8,
                              1e-9, NULL, &fourdvar, message, sizeof message)
            == PYBRIDGE_OBSERVATION,
        "an observation beyond the window is refused");
  check(fourdvar == NULL && strstr(message, "beyond") != NULL, "and a sentence says so");
  check(pybridge_fourdvar_new(NULL, covariance, observations, STEPS, OUTER, INNER, 10, 0, 1e-8,
                              1e-9, NULL, &fourdvar, message, sizeof message)
            == PYBRIDGE_NULL_HANDLE,
        "a null model is refused");
  check(pybridge_fourdvar_new(model, covariance, observations, STEPS, OUTER, INNER, 10, 0, 1e-8,
                              1e-9, parameter_sigma, &fourdvar, message, sizeof message)
            == PYBRIDGE_OK,
        "a 4D-Var is made");
  check(pybridge_fourdvar_sizes(fourdvar, &n_control, &n_observations) == PYBRIDGE_OK,
        "its sizes are told");
  check(n_control == N + 1 && n_observations == 2 * STEPS, "and right");
  check(pybridge_fourdvar_hessian(fourdvar, 0, v, product) == PYBRIDGE_INVALID_ARGUMENT,
        "there is no Hessian before a cost");

  memset(y, 0, sizeof y);
  {
    double jb, jo;
    check(pybridge_fourdvar_cost_and_gradient(fourdvar, 0, x, NULL, y, v, &jb, &jo, gradient,
                                              &failed_step)
              == PYBRIDGE_OK,
          "cost and gradient");
    check(jb == 0.0 && jo > 0.0, "the background costs nothing at the background");
    check(pybridge_fourdvar_hessian(fourdvar, 0, gradient, product) == PYBRIDGE_OK, "Hessian");
  }
  {
    /* Without observations the analysed trajectory is a free run: it will be the truth */
    pybridge_observations *none = NULL;
    check(pybridge_observations_new(N, &none) == PYBRIDGE_OK, "an empty layout is made");
    check(pybridge_fourdvar_set_observations(fourdvar, none, message, sizeof message)
              == PYBRIDGE_OK,
          "a layout is replaced");
    check(pybridge_fourdvar_hessian(fourdvar, 0, gradient, product) == PYBRIDGE_INVALID_ARGUMENT,
          "and with it goes the last linearisation");
    check(pybridge_fourdvar_analyse(fourdvar, 0, x, NULL, y, v, analysis, parameters, final, truth,
                                    &failed_step)
              == PYBRIDGE_OK,
          "a window without observations is analysed");
    check(memcmp(analysis, x, sizeof x) == 0 && parameters[0] == 8.0, "it is the background");
    pybridge_observations_free(none);
  }
  check(pybridge_fourdvar_set_observations(fourdvar, observations, message, sizeof message)
            == PYBRIDGE_OK,
        "the layout is put back");

  for (s = 1; s <= STEPS; ++s)
    for (i = 0; i < 2; ++i)
      y[2 * (s - 1) + i] = truth[s * N + indices[i]];
  for (i = 0; i < N; ++i)
    x[i] += 0.2 * cos(2.3 * i);
  {
    double jb[OUTER + 1], jo[OUTER + 1], lengths[OUTER], norms[OUTER * (INNER + 1)];
    double costs[OUTER * (INNER + 1)];
    int inner[OUTER], outer, converged, forward, tangent_linear, adjoint, total = 0;

    memset(v, 0, sizeof v);
    check(pybridge_fourdvar_analyse(fourdvar, 0, x, NULL, y, v, analysis, parameters, final,
                                    trajectory, &failed_step)
              == PYBRIDGE_OK,
          "a window is analysed");
    check(pybridge_fourdvar_history(fourdvar, &outer, &converged, &forward, &tangent_linear,
                                    &adjoint, jb, jo, lengths, inner, norms, costs)
              == PYBRIDGE_OK,
          "its history is told");
    check(converged == 1 && outer >= 2 && outer <= OUTER, "it has converged");
    check(jb[outer] + jo[outer] < 0.5 * (jb[0] + jo[0]), "the cost is reduced");
    for (s = 0; s < outer; ++s) {
      total += inner[s];
      check(norms[s * (INNER + 1) + inner[s]] <= 1e-8 * norms[s * (INNER + 1)],
            "each inner minimisation has converged");
      check(fabs(costs[s * (INNER + 1)] - jb[s] - jo[s]) <= 1e-12 * (jb[s] + jo[s]),
            "each begins at the cost");
    }
    check(tangent_linear == total, "one tangent linear run an inner iteration");
    check(memcmp(trajectory, analysis, sizeof analysis) == 0, "the trajectory's start");
    check(memcmp(trajectory + STEPS * N, final, sizeof final) == 0, "and its end");
    check(forward > 0 && adjoint > total, "runs are counted");
  }
  {
    double state[N], p[1];
    check(pybridge_fourdvar_to_physical(fourdvar, x, NULL, v, state, p) == PYBRIDGE_OK,
          "a control vector is turned into a state");
    check(memcmp(state, analysis, sizeof state) == 0 && p[0] == parameters[0],
          "the analysis, bit for bit");
  }

  x[3] = NAN;
  memset(v, 0, sizeof v);
  check(pybridge_fourdvar_analyse(fourdvar, 0, x, NULL, y, v, analysis, parameters, final, NULL,
                                  &failed_step)
            == PYBRIDGE_BLOW_UP,
        "a background that is not a number is refused");
  check(pybridge_fourdvar_analyse(NULL, 0, x, NULL, y, v, analysis, parameters, final, NULL,
                                  &failed_step)
            == PYBRIDGE_NULL_HANDLE,
        "a null handle is refused");

  pybridge_fourdvar_free(fourdvar);
  pybridge_fourdvar_free(NULL);
  pybridge_observations_free(observations);
  pybridge_covariance_free(covariance);
  pybridge_model_free(model);
  if (failures == 0)
    printf("assimilation, C: all checks passed\n");
  return failures != 0;
}
