/* SPDX-License-Identifier: MIT */
/* C, and the same in C++: a network, and a hybrid model. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "pybridge.h"

enum { N = 8, STEPS = 10 };

static double x[N], dx[N], x_ad[N];

static void start(void)
{
  int i;
  for (i = 0; i < N; ++i) {
    x[i] = 3.0 + sin(i + 1.0);
    dx[i] = cos(i + 1.0);
    x_ad[i] = 1.0 / (i + 1);
  }
}

static void show(const char *name, const double *values)
{
  int i;
  printf("%s", name);
  for (i = 0; i < N; ++i) printf(" %.16e", values[i]);
  printf("\n");
}

static void require(int status)
{
  char message[100];
  if (status == PYBRIDGE_OK) return;
  pybridge_status_message(status, message, sizeof message);
  fprintf(stderr, "%s\n", message);
  exit(1);
}

static double *doubles(int64_t n)
{
  double *buffer = (double *)malloc((size_t)n * sizeof(double));
  if (!buffer) exit(1);
  return buffer;
}

int main(int argc, char **argv)
{
  pybridge_network *network;
  pybridge_model *physics, *model;
  char message[200];
  double y[N], dy[N], y_ad[N];
  double *linearisation, *work;
  int64_t n_work;
  int i, failed_member, failed_step;

  if (argc != 2) return 2;
  require(pybridge_network_from_file(argv[1], &network, message, sizeof message));
  start();
  linearisation = doubles(pybridge_network_linearisation_size(network, 1));
  work = doubles(pybridge_network_work_size(network, 1));
  require(pybridge_network_forward(network, 1, NULL, x, y, linearisation, work));
  require(pybridge_network_forward_tl(network, 1, NULL, linearisation, dx, NULL, dy, work));
  for (i = 0; i < N; ++i) {
    y_ad[i] = x_ad[i];
    x_ad[i] = 0.0;
  }
  require(pybridge_network_forward_ad(network, 1, NULL, linearisation, y_ad, x_ad, NULL, work));
  show("network", y);
  show("network_tl", dy);
  show("network_ad", x_ad);
  free(linearisation);
  free(work);

  require(pybridge_model_lorenz96(N, 0.05, 8.0, &physics));
  require(pybridge_model_hybrid(physics, network, PYBRIDGE_CORRECT_INCREMENT, 1, 0, NULL, 0, NULL,
                                &model, message, sizeof message));
  pybridge_model_free(physics);
  pybridge_network_free(network);
  n_work = pybridge_model_workspace(model, PYBRIDGE_WORKSPACE_AD, STEPS, 1, 1);
  work = doubles(n_work);
  start();
  require(pybridge_model_forecast_tl(model, 0, STEPS, 1, 1, NULL, x, NULL, dx, work, n_work,
                                     &failed_member, &failed_step));
  require(pybridge_model_forecast_ad(model, 0, STEPS, 1, 1, NULL, x, x_ad, NULL, work, n_work,
                                     &failed_member, &failed_step));
  require(pybridge_model_forecast(model, 0, STEPS, 1, 1, 1, NULL, x, NULL, work, n_work,
                                  &failed_member, &failed_step));
  show("hybrid", x);
  show("hybrid_tl", dx);
  show("hybrid_ad", x_ad);
  pybridge_model_free(model);
  free(work);
  return 0;
}
