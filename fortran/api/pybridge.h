/* SPDX-License-Identifier: MIT */
/**
 * @file pybridge.h
 * The C interface of pybridge: forecast models, networks, their hybrids, and 4D-Var.
 *
 * Conventions:
 *
 * - A function that can fail returns a status, zero for success; `pybridge_status_message` makes a
 *   sentence of it. Where a buffer `message` of `length` characters is among the arguments, a
 *   fuller sentence is written there on failure, ended by a null character and cut where it is too
 *   long. Nothing prints, nothing exits.
 * - Objects are opaque. `handle` returns a new one, null on failure, which its `_free` function
 *   destroys; freeing null does nothing. A call with a null object returns
 *   PYBRIDGE_NULL_HANDLE.
 * - Models and networks do not change while they work, and one serves any number of threads. State,
 *   records and workspace are the caller's.
 * - Arrays of many members are `x[member][i]`, contiguous. Nothing is copied at this border.
 * - Suffix `_tl` is the tangent linear, which assigns its result; `_ad` the adjoint. dx and x_ad are
 *   the perturbation and the adjoint variable of x, dp and p_ad those of the parameters. Parameter
 *   adjoints are accumulated: set them to zero first.
 * - Where an argument may be null, its comment says what null means.
 */
#ifndef PYBRIDGE_H
#define PYBRIDGE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- status ---------------------------------------------------------------------------------- */

enum {
  PYBRIDGE_OK = 0,
  /** An argument is out of its range */
  PYBRIDGE_INVALID_ARGUMENT = 1,
  /** A size or shape does not fit */
  PYBRIDGE_WRONG_SHAPE = 2,
  /** The state holds NaN, infinity, or a value beyond the model's blow-up limit */
  PYBRIDGE_BLOW_UP = 3,
  /** A procedure supplied by the user reported a failure */
  PYBRIDGE_USER_PROCEDURE = 4,
  /** A file could not be opened, read or written */
  PYBRIDGE_FILE_ACCESS = 5,
  /** A file's content is not what its format asks for */
  PYBRIDGE_FILE_FORMAT = 6,
  /** A file's checksum does not match its content */
  PYBRIDGE_CHECKSUM = 7,
  /** A layer or feature is not supported */
  PYBRIDGE_UNSUPPORTED = 8,
  /** A covariance is not positive definite */
  PYBRIDGE_NOT_POSITIVE_DEFINITE = 9,
  /** An observation lies outside the window or the state, or its error is not positive */
  PYBRIDGE_OBSERVATION = 10,
  /** A minimisation did not reduce the cost function */
  PYBRIDGE_NOT_CONVERGED = 11,
  /** A handle is null */
  PYBRIDGE_NULL_HANDLE = 12,
  /** Memory could not be allocated */
  PYBRIDGE_OUT_OF_MEMORY = 13,
  /** A reference result stored in a file is not reproduced */
  PYBRIDGE_SELF_TEST = 14,
  /** The library, or a user's model, was built without the part that is asked for */
  PYBRIDGE_NOT_AVAILABLE = 15
};

/**
 * One sentence for a status.
 *
 * @param message  receives the sentence, ended by a null character
 * @param length   size of `message`
 */
void pybridge_status_message(int status, char *message, int length);

/* ---- forecast models ------------------------------------------------------------------------- */

/** A forecast model: bundled, the user's own, or a hybrid */
typedef struct pybridge_model pybridge_model;

/** Lorenz (1963): n = 3; parameters sigma, rho, beta. Fourth-order Runge-Kutta with step dt. */
int pybridge_model_lorenz63(double dt, double sigma, double rho, double beta,
                            pybridge_model **handle);

/** Lorenz (1996): n >= 4 variables on a ring; parameter: the forcing. Fourth-order Runge-Kutta. */
int pybridge_model_lorenz96(int n, double dt, double forcing, pybridge_model **handle);

/**
 * Two-scale Lorenz-96 (Lorenz 1996): state of n_slow >= 4 slow variables, then u[n_slow][n_fast]
 * fast ones; parameters forcing, h, b, c. Fourth-order Runge-Kutta.
 */
int pybridge_model_two_scale_lorenz96(int n_slow, int n_fast, double dt, double forcing, double h,
                                      double b, double c, pybridge_model **handle);

/**
 * The recharge oscillator of El Nino (Jin 1997): state (eastern temperature anomaly, western
 * thermocline depth anomaly), nondimensional.
 *
 * @param parameters  mu, e_n, c, gamma, r, alpha, b_0
 */
int pybridge_model_recharge_oscillator(double dt, const double parameters[7],
                                       pybridge_model **handle);

/**
 * A user's procedure: advance the state x[n] in place from time t = k*dt by one step.
 *
 * @param context  what was handed to `pybridge_model_user`
 * @param k        number of the step
 * @param p        parameters, p[n_parameters]
 * @return zero, or anything else for a failure
 */
typedef int pybridge_user_step(void *context, int k, double t, int n, int n_parameters,
                               const double *p, double *x);

/** Its tangent linear about the state x before the step: dx <- (d/dx) dx + (d/dp) dp. */
typedef int pybridge_user_step_tl(void *context, int k, double t, int n, int n_parameters,
                                  const double *p, const double *x, const double *dp, double *dx);

/** Its adjoint: p_ad <- p_ad + (d/dp)^T x_ad, and x_ad <- (d/dx)^T x_ad. */
typedef int pybridge_user_step_ad(void *context, int k, double t, int n, int n_parameters,
                                  const double *p, const double *x, double *x_ad, double *p_ad);

/**
 * A model made of the user's procedures. They are called by several threads at once where a run
 * asks for threads.
 *
 * @param parameters  default parameters, parameters[n_parameters]
 * @param context     handed back to the procedures; may be null
 * @param on_step_tl  null for a model without derivatives, as on_step_ad
 */
int pybridge_model_user(int n, int n_parameters, const double *parameters, double dt, void *context,
                        pybridge_user_step *on_step, pybridge_user_step_tl *on_step_tl,
                        pybridge_user_step_ad *on_step_ad, pybridge_model **handle);

/**
 * Hand the user's procedures, as context, a pointer to an int, which they set to 1 where all went
 * well; what they return is ignored. For callbacks of a language that may return anything where it
 * could not enter them. To be called before the model is used.
 */
int pybridge_model_user_acknowledges(pybridge_model *handle);

void pybridge_model_free(pybridge_model *handle);

/**
 * Sizes of a model, and its time step.
 *
 * @param n             size of the state
 * @param n_parameters  size of the parameter vector
 * @param n_carry       values that the model integrates beside its state
 */
int pybridge_model_sizes(const pybridge_model *handle, int *n, int *n_parameters, int *n_carry,
                         double *dt);

/** Copy the model's own parameters to p[n_parameters]. */
int pybridge_model_parameters(const pybridge_model *handle, double *p);

/** What a workspace is for */
enum {
  PYBRIDGE_WORKSPACE_FORECAST = 0,
  PYBRIDGE_WORKSPACE_TL = 1,
  PYBRIDGE_WORKSPACE_AD = 2
};

/**
 * Number of doubles of workspace that a run needs. That of an adjoint grows with its steps: it keeps
 * the run's linearisation.
 */
int64_t pybridge_model_workspace(const pybridge_model *handle, int purpose, int n_steps,
                                 int n_members, int n_threads);

/**
 * Advance every member by n_steps steps, in place.
 *
 * @param k              number of the first step: it begins at time k*dt
 * @param every          steps between the states kept in `trajectory`
 * @param n_threads      OpenMP threads among which members are shared; results do not depend on it
 * @param p              parameters, p[n_parameters]; null: the model's own
 * @param x              states, x[n_members][n]; a member that fails keeps the state it came with
 * @param trajectory     trajectory[n_members][n_steps / every + 1][n], the first being the state
 *                       at the start; null: not wanted
 * @param work           work[n_work], n_work from `pybridge_model_workspace`
 * @param failed_member  first member that failed, from 1; 0: none
 * @param failed_step    its step within the run, from 1
 */
int pybridge_model_forecast(const pybridge_model *handle, int k, int n_steps, int every,
                            int n_members, int n_threads, const double *p, double *x,
                            double *trajectory, double *work, int64_t n_work, int *failed_member,
                            int *failed_step);

/**
 * Tangent linear of `pybridge_model_forecast` about the run that starts at x.
 *
 * @param x   states before the run, x[n_members][n]
 * @param dp  perturbation of the parameters, one for all members; null: zero
 * @param dx  perturbations of the states, dx[n_members][n], before and after the run
 */
int pybridge_model_forecast_tl(const pybridge_model *handle, int k, int n_steps, int n_members,
                               int n_threads, const double *p, const double *x, const double *dp,
                               double *dx, double *work, int64_t n_work, int *failed_member,
                               int *failed_step);

/**
 * Adjoint of `pybridge_model_forecast` about the run that starts at x.
 *
 * @param x_ad  adjoint variables, x_ad[n_members][n]: of the states after the run on entry, before
 *              the run on return
 * @param p_ad  adjoint variable of the parameters, p_ad[n_parameters], to which all members'
 *              are added; null: not wanted
 */
int pybridge_model_forecast_ad(const pybridge_model *handle, int k, int n_steps, int n_members,
                               int n_threads, const double *p, const double *x, double *x_ad,
                               double *p_ad, double *work, int64_t n_work, int *failed_member,
                               int *failed_step);

/* ---- networks -------------------------------------------------------------------------------- */

/** A trained network. Its inputs are one vector, those of several tensors one after another. */
typedef struct pybridge_network pybridge_network;

/** Read a network from a file, which `pybridge.Network.save` wrote in Python. */
int pybridge_network_from_file(const char *path, pybridge_network **handle, char *message,
                               int message_length);

/** Make a network of a file's content in memory, which may have been broadcast by MPI. */
int pybridge_network_from_bytes(const int8_t *bytes, int64_t n_bytes, pybridge_network **handle,
                                char *message, int message_length);

void pybridge_network_free(pybridge_network *handle);

int pybridge_network_sizes(const pybridge_network *handle, int *n_inputs, int *n_outputs,
                           int *n_parameters);

/** Doubles that `pybridge_network_forward` records for nb vectors; 0 for an impossible nb. */
int64_t pybridge_network_linearisation_size(const pybridge_network *handle, int nb);

/** Doubles of scratch space for nb vectors; 0 for an impossible nb. */
int64_t pybridge_network_work_size(const pybridge_network *handle, int nb);

/** Copy the weights to p[n_parameters]. */
int pybridge_network_parameters(const pybridge_network *handle, double *p);

/** Replace the weights by p[n_parameters]. Not while another thread uses the network. */
int pybridge_network_set_parameters(pybridge_network *handle, const double *p);

/**
 * Evaluate the network, and record what its derivatives need.
 *
 * @param nb             number of vectors
 * @param p              weights; null: the network's own
 * @param x              x[nb][n_inputs]
 * @param y              y[nb][n_outputs], the result
 * @param linearisation  the record, of pybridge_network_linearisation_size doubles
 * @param work           scratch space, of pybridge_network_work_size doubles
 */
int pybridge_network_forward(const pybridge_network *handle, int nb, const double *p,
                             const double *x, double *y, double *linearisation, double *work);

/**
 * Tangent linear: dy <- (d/dx) dx + (d/dp) dp.
 *
 * @param linearisation  what `pybridge_network_forward` recorded
 * @param dp             perturbation of the weights; null: zero
 */
int pybridge_network_forward_tl(const pybridge_network *handle, int nb, const double *p,
                                const double *linearisation, const double *dx, const double *dp,
                                double *dy, double *work);

/**
 * Adjoint: x_ad <- x_ad + (d/dx)^T y_ad, p_ad <- p_ad + (d/dp)^T y_ad.
 *
 * @param p_ad  null: not wanted
 */
int pybridge_network_forward_ad(const pybridge_network *handle, int nb, const double *p,
                                const double *linearisation, const double *y_ad, double *x_ad,
                                double *p_ad, double *work);

/** y alone, with the network's own weights and without buffers of the caller (it allocates). */
int pybridge_network_evaluate(const pybridge_network *handle, int nb, const double *x, double *y);

/** y and dy about x, likewise. */
int pybridge_network_evaluate_tl(const pybridge_network *handle, int nb, const double *x,
                                 const double *dx, double *y, double *dy);

/** y and, accumulated, x_ad about x, likewise. */
int pybridge_network_evaluate_ad(const pybridge_network *handle, int nb, const double *x,
                                 const double *y_ad, double *y, double *x_ad);

/** Repeat the reference results that came with the file. */
int pybridge_network_self_test(const pybridge_network *handle, char *message, int message_length);

/* ---- hybrid models --------------------------------------------------------------------------- */

/** How a network's correction g is applied */
enum {
  /** Added to the tendency at every stage of the time scheme; for integrated tendencies */
  PYBRIDGE_CORRECT_TENDENCY = 0,
  /** x <- x + g(x) after every `every`-th step */
  PYBRIDGE_CORRECT_INCREMENT = 1,
  /** g(x) of the state at a run's start, dt g(x) added after each of its steps */
  PYBRIDGE_CORRECT_FORCING = 2
};

/**
 * A model with a network's correction, as a model. Its parameter vector is the model's, followed by
 * the network's weights. Model and network are copied, and may be freed.
 *
 * @param net      one output a state variable, from these inputs: the state; the fixed fields;
 *                 cosine and sine of the time within each period
 * @param every    for PYBRIDGE_CORRECT_INCREMENT; 1 otherwise
 * @param fixed    fixed[n_fixed]; null where there are none
 * @param periods  periods[n_periods], in the model's unit of time; null where there are none
 */
int pybridge_model_hybrid(const pybridge_model *model, const pybridge_network *net, int mode,
                          int every, int n_fixed, const double *fixed, int n_periods,
                          const double *periods, pybridge_model **handle, char *message,
                          int message_length);

/* ---- background error covariances ------------------------------------------------------------ */

/** A covariance B = U U^T by its control-variable transform U */
typedef struct pybridge_covariance pybridge_covariance;

/** B = diag(sigma^2); sigma[n]. */
int pybridge_covariance_diagonal(int n, const double *sigma, pybridge_covariance **handle);

/** B = matrix[n][n], symmetric positive definite; U is its Cholesky factor. */
int pybridge_covariance_full(int n, const double *matrix, pybridge_covariance **handle);

int pybridge_covariance_sizes(const pybridge_covariance *handle, int *n_state, int *n_control);

/** dx <- U v, for v[n_members][n_control] and dx[n_members][n_state]. */
int pybridge_covariance_forward(const pybridge_covariance *handle, int n_members, const double *v,
                                double *dx);

/** v_ad <- v_ad + U^T dx_ad. */
int pybridge_covariance_forward_ad(const pybridge_covariance *handle, int n_members,
                                   const double *dx_ad, double *v_ad);

void pybridge_covariance_free(pybridge_covariance *handle);

/* ---- observations ---------------------------------------------------------------------------- */

/** Where and when a window is observed, and with which errors; the values are given later. */
typedef struct pybridge_observations pybridge_observations;

int pybridge_observations_new(int n_state, pybridge_observations **handle);

/**
 * Observe n values of the state after a step of the window.
 *
 * @param step     from 0, the window's start
 * @param indices  indices[n], from 0
 * @param sigma    standard deviations of the errors, sigma[n]
 */
int pybridge_observations_add_selection(pybridge_observations *handle, int step, int n,
                                        const int *indices, const double *sigma);

void pybridge_observations_free(pybridge_observations *handle);

/* ---- 4D-Var ---------------------------------------------------------------------------------- */

/**
 * Incremental strong-constraint 4D-Var (Courtier, Thepaut and Hollingsworth 1994) over windows of
 * one kind. It owns its workspace: one thread at a time.
 */
typedef struct pybridge_fourdvar pybridge_fourdvar;

/**
 * A 4D-Var. The model must outlive it; covariance and observations are copied.
 *
 * @param n_steps             steps in the window
 * @param n_outer             most outer iterations, each a linearisation
 * @param n_inner             most conjugate-gradient iterations of an outer one
 * @param n_step_reductions   most reductions of a step that does not reduce the cost
 * @param reorthogonalise     not 0: reorthogonalise the conjugate gradients
 * @param gradient_tolerance  inner iterations end when the gradient's norm is below this times
 *                            that at their start
 * @param outer_tolerance     outer iterations end when a step's norm is below this times the
 *                            control vector's, or this alone where that is smaller than 1
 * @param parameter_sigma     background errors of the parameters, 0 for one that stays fixed; null:
 *                            all are
 */
int pybridge_fourdvar_new(const pybridge_model *model, const pybridge_covariance *covariance,
                          const pybridge_observations *observations, int n_steps, int n_outer,
                          int n_inner, int n_step_reductions, int reorthogonalise,
                          double gradient_tolerance, double outer_tolerance,
                          const double *parameter_sigma, pybridge_fourdvar **handle, char *message,
                          int length);

/** Replace the layout of the observations. */
int pybridge_fourdvar_set_observations(pybridge_fourdvar *handle,
                                       const pybridge_observations *observations, char *message,
                                       int length);

/** Sizes of the control vector (state, then controlled parameters) and of y. */
int pybridge_fourdvar_sizes(const pybridge_fourdvar *handle, int *n_control, int *n_observations);

/**
 * Analyse a window.
 *
 * @param k                    number of the window's first step
 * @param background           background state, background[n]
 * @param parameters           background parameters; null: the model's own
 * @param y                    observations, in the order in which they were added
 * @param v                    control vector: on entry the first guess (zero: the background), on
 *                             return the analysis
 * @param analysis             analysed state at the window's start, analysis[n]
 * @param analysed_parameters  analysed_parameters[n_parameters]
 * @param final                analysed state at the window's end, final[n]
 * @param trajectory           trajectory[n_steps + 1][n]; null: not wanted
 * @param failed_step          step at which the model failed, from 1; 0: none
 * @return PYBRIDGE_NOT_CONVERGED, with results, where an outer iteration found no smaller cost
 */
int pybridge_fourdvar_analyse(pybridge_fourdvar *handle, int k, const double *background,
                              const double *parameters, const double *y, double *v,
                              double *analysis, double *analysed_parameters, double *final,
                              double *trajectory, int *failed_step);

/**
 * How the last analysis went. The arguments' n_outer and n_inner are what was done; the arrays have
 * room for what `pybridge_fourdvar_new` allowed.
 *
 * @param converged         1 where the last step was within the tolerance
 * @param n_forward         runs of the model, and of its tangent linear and adjoint
 * @param jb                jb[n_outer + 1], background term at the start and after each outer
 *                          iteration; jo the observation term
 * @param step_length       step_length[n_outer], in units of the inner minimisation's
 * @param n_inner           n_inner[n_outer]
 * @param gradient_norm     gradient_norm[n_outer][n_inner + 1]; inner_cost, the quadratic function,
 *                          likewise
 */
int pybridge_fourdvar_history(const pybridge_fourdvar *handle, int *n_outer, int *converged,
                              int *n_forward, int *n_tangent_linear, int *n_adjoint, double *jb,
                              double *jo, double *step_length, int *n_inner, double *gradient_norm,
                              double *inner_cost);

/** Cost and gradient at a control vector v; v_ad[n_control] is assigned. */
int pybridge_fourdvar_cost_and_gradient(pybridge_fourdvar *handle, int k, const double *background,
                                        const double *parameters, const double *y, const double *v,
                                        double *jb, double *jo, double *v_ad, int *failed_step);

/** Observation term at a state x, and its gradient in physical space, assigned. */
int pybridge_fourdvar_observation_cost_and_gradient(pybridge_fourdvar *handle, int k,
                                                    const double *x, const double *parameters,
                                                    const double *y, double *jo, double *x_ad,
                                                    double *p_ad, int *failed_step);

/** h_v <- Gauss-Newton Hessian times dv, about the last `pybridge_fourdvar_cost_and_gradient`. */
int pybridge_fourdvar_hessian(pybridge_fourdvar *handle, int k, const double *dv, double *h_v);

/** State x and parameters p at a control vector. */
int pybridge_fourdvar_to_physical(pybridge_fourdvar *handle, const double *background,
                                  const double *parameters, const double *v, double *x, double *p);

void pybridge_fourdvar_free(pybridge_fourdvar *handle);

#ifdef __cplusplus
}
#endif

#endif
