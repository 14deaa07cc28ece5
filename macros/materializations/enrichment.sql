{% materialization enrichment, adapter='duckdb', supported_languages=['sql'] %}

  {%- do dbt_enrich._refuse_server() -%}
  {% if not dbt_enrich._has_plugin() %}
    {%- do dbt_enrich._refuse_idle_plugin() -%}
    {{ return(dbt_enrich._stage_and_publish()) }}
  {% endif %}
  {%- set existing_relation = load_cached_relation(this) -%}
  {%- set target_relation = this.incorporate(type='table') -%}
  {%- set intermediate_relation = make_intermediate_relation(target_relation) -%}
  {%- set preexisting_intermediate_relation = load_cached_relation(intermediate_relation) -%}
  {%- set backup_relation_type = 'table' if existing_relation is none else existing_relation.type -%}
  {%- set backup_relation = make_backup_relation(target_relation, backup_relation_type) -%}
  {%- set preexisting_backup_relation = load_cached_relation(backup_relation) -%}
  {%- set grant_config = config.get('grants') -%}

  {% if dbt_enrich._is_unplanned(target_relation) %}
    {{ return({'relations': []}) }}
  {% endif %}

  {{ drop_relation_if_exists(preexisting_intermediate_relation) }}
  {{ drop_relation_if_exists(preexisting_backup_relation) }}

  {{ run_hooks(pre_hooks, inside_transaction=False) }}

  -- `BEGIN` happens here:
  {{ run_hooks(pre_hooks, inside_transaction=True) }}

  {#- A transaction writes to one database alone, and rows are not staged in the target's. -#}
  {% if pre_hooks | selectattr('transaction', 'equalto', true) | list %}
    -- `COMMIT` happens here
    {{ adapter.commit() }}
  {% endif %}
  {%- set staged = dbt_enrich._call_plugin('open', target_relation, {
    'database': target_relation.database,
    'schema': target_relation.schema,
    'identifier': target_relation.identifier,
  }) -%}

  -- `BEGIN` happens here:
  {% call statement('stage') -%}
    {{ config.get('sql_header') or '' }}
    create or replace table {{ staged }} as (
      {{ compiled_code }}
    )
  {%- endcall %}

  -- `COMMIT` happens here: the plugin works on a connection of its own, which sees only what is
  -- committed, and no transaction stays open for the hours that a batch may take
  {{ adapter.commit() }}

  {%- set request = dbt_enrich._model_request(target_relation, staged, existing_relation) -%}
  {%- set empty = dbt_enrich._call_plugin('prepare', target_relation, request) -%}
  {% do dbt_enrich._add_status_columns(empty.status_columns) %}

  -- `BEGIN` happens here, and `COMMIT` at its end:
  {%- set shapes = dbt_enrich._rehearse(intermediate_relation, empty, target_relation, existing_relation) -%}
  {%- do request.update({'shapes': shapes}) -%}

  {%- set outcome = dbt_enrich._call_plugin('enrich', target_relation, request) -%}
  {#- `plan` and `preview` leave an existing table, and what is written of it, alone. -#}
  {%- set publishes = outcome.replaces or existing_relation is none -%}
  {%- set stays = outcome.touched is not none -%}
  {%- set counts, content = none, none -%}
  {% if outcome.warning %}
    {% do exceptions.warn(outcome.warning) %}
  {% endif %}

  -- `BEGIN` happens here:
  {% if outcome.merges %}
    {%- set unique_key = config.require('unique_key') -%}
    {%- set errors_relation = dbt_enrich._errors_relation(target_relation) -%}
    {% call statement('merged_rows') -%}
      {{ dbt_enrich._create_table_as(intermediate_relation, outcome.enriched_sql) }}
    {%- endcall %}
    {% call statement('errors') -%}
      {{ dbt_enrich._replace_errors(errors_relation, intermediate_relation, unique_key, outcome.errors_sql) }}
    {%- endcall %}
    {% call statement('main') -%}
      {{ dbt_enrich._merge_into(target_relation, intermediate_relation, unique_key, outcome.has_merge) }}
    {%- endcall %}
    {%- do outcome.response.add_rows(dbt_enrich._count_statuses(intermediate_relation)) -%}
    {%- set counts = dbt_enrich._count_statuses(target_relation) -%}
    {{ drop_relation_if_exists(intermediate_relation) }}
  {% elif stays %}
    {% if outcome.touched or outcome.gone %}
      {%- set unique_key = config.require('unique_key') -%}
      {% call statement('touched_rows') -%}
        {{ dbt_enrich._create_table_as(intermediate_relation, outcome.enriched_sql) }}
      {%- endcall %}
      {%- set content = dbt_enrich._count_statuses(intermediate_relation, outcome.content) -%}
      {% call statement('main') -%}
        {{ dbt_enrich._touch_rows(target_relation, intermediate_relation, staged, unique_key, outcome.gone > 0) }}
      {%- endcall %}
      {{ drop_relation_if_exists(intermediate_relation) }}
    {% else %}
      {% call statement('main') -%}
        select 1
      {%- endcall %}
    {% endif %}
    {% if outcome.replaces_errors %}
      {% call statement('errors') -%}
        create or replace table {{ dbt_enrich._errors_relation(target_relation) }} as (
          {{ outcome.errors_sql }}
        )
      {%- endcall %}
    {% endif %}
    {%- set counts = dbt_enrich._count_statuses(target_relation) -%}
    {%- do dbt_enrich._refuse_others(target_relation, counts, outcome.rows) -%}
    {%- do outcome.response.add_rows(counts) -%}
  {% elif publishes %}
    {% call statement('main') -%}
      {{ dbt_enrich._create_table_as(intermediate_relation, outcome.enriched_sql) }}
    {%- endcall %}
    {% call statement('errors') -%}
      create or replace table {{ dbt_enrich._errors_relation(target_relation) }} as (
        {{ outcome.errors_sql }}
      )
    {%- endcall %}
    {% if outcome.replaces %}
      {%- set counts = dbt_enrich._count_statuses(intermediate_relation, outcome.content) -%}
      {%- set content = counts -%}
      {%- do outcome.response.add_rows(counts) -%}
    {% endif %}
    {% do dbt_enrich._replace_table(existing_relation, intermediate_relation, target_relation, backup_relation, outcome.drops_indexes) %}
  {% else %}
    {% call statement('main') -%}
      select 1
    {%- endcall %}
  {% endif %}
  {#- dbt's result line and run_results.json take the response of `main`. -#}
  {{ store_result('main', response=outcome.response) }}

  {{ run_hooks(post_hooks, inside_transaction=True) }}

  {% set should_revoke = should_revoke(existing_relation, full_refresh_mode=not (outcome.merges or stays)) %}
  {% do apply_grants(target_relation, grant_config, should_revoke=should_revoke) %}
  {% if publishes %}
    {% do persist_docs(target_relation, model) %}
  {% endif %}
  {% if outcome.comment %}
    {% do dbt_enrich._comment_on(target_relation, outcome.comment) %}
  {% endif %}

  -- `COMMIT` happens here
  {{ adapter.commit() }}

  {#- Only what is committed is published. -#}
  {% do dbt_enrich._call_plugin('finish', target_relation, {
    'run_id': outcome.run_id,
    'staged': staged,
    'counts': counts,
    'content': content,
  }) %}

  -- finally, drop the existing/backup relation after the commit
  {{ drop_relation_if_exists(backup_relation) }}
  {% if outcome.takes_turns %}
    {% do dbt_enrich._call_plugin('yield', target_relation, {'staged': staged}) %}
  {% endif %}
  {{ log(outcome.summary, info=true) }}

  {{ run_hooks(post_hooks, inside_transaction=False) }}

  {{ return({'relations': [target_relation]}) }}

{% endmaterialization %}
